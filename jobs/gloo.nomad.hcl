# The API gateway: three groups of gloo-nomad and stock Envoy.
#
#   vault policy write gloo jobs/gloo-policy.hcl
#   consul acl policy create -name gloo -rules @jobs/gloo-consul-policy.hcl     (only where ACLs are on)
#   nomad acl policy apply -namespace default -job gloo gloo-nomad jobs/gloo-nomad-policy.hcl  (the same, nomad_identity)
#   nomad job run -var 'datacenters=["dc1"]' -var vault_address=https://vault.service.consul:8200 jobs/gloo.nomad.hcl
#
# Every variable has a default that suits one datacenter with a Consul agent on each Nomad client.

variable "job_name" {
  type        = string
  default     = "gloo"
  description = "Name of this job."
}

variable "datacenters" {
  type        = list(string)
  default     = ["*"]
  description = "Nomad datacenters to run in."
}

variable "nomad_namespace" {
  type        = string
  default     = "default"
  description = "Nomad namespace of this job."
}

variable "namespace" {
  type        = string
  default     = "gloo-system"
  description = "Namespace of the objects (Gateways, Settings, discovered Upstreams); also the first part of Envoy's role."
}

variable "settings_name" {
  type        = string
  default     = "default"
  description = "Name of the Settings object in Consul KV that is laid over what this job says."
}

variable "root_key" {
  type        = string
  default     = "gloo"
  description = "First part of every key in Consul KV."
}

variable "driver" {
  type        = string
  default     = "docker"
  description = "Task driver: docker, or raw_exec for programs that are installed on the Nomad clients."
  validation {
    condition     = var.driver == "docker" || var.driver == "raw_exec"
    error_message = "The driver is docker or raw_exec."
  }
}

variable "gloo_image" {
  type        = string
  default     = "gloo-nomad:0.1.0"
  description = "Image whose entry point is gloo-nomad (driver docker)."
}

variable "envoy_image" {
  type        = string
  default     = "envoyproxy/envoy:v1.36-latest"
  description = "Image of stock Envoy 1.36 or newer, with a shell (driver docker)."
}

variable "gloo_command" {
  type        = string
  default     = "gloo-nomad"
  description = "Path of gloo-nomad on the clients (driver raw_exec)."
}

variable "envoy_command" {
  type        = string
  default     = "envoy"
  description = "Path of Envoy: on the clients (driver raw_exec) or in its image (driver docker)."
}

variable "gloo_count" {
  type        = number
  default     = 1
  description = "Instances of the group gloo. Each is complete by itself; two or more for availability, on as many clients while xds_port is fixed."
}

variable "gateway_count" {
  type        = number
  default     = 1
  description = "Instances of the front door (REST API that validates before it writes)."
}

variable "discovery_count" {
  type        = number
  default     = 1
  description = "Instances of discovery, which writes Upstreams for the services it finds. 0 switches it off."
}

variable "proxy_count" {
  type        = number
  default     = 1
  description = "Envoys. Their ports are fixed, so each is on a client of its own."
}

variable "consul_address" {
  type        = string
  default     = "127.0.0.1:8500"
  description = "Consul's HTTP API as the tasks reach it, host:port or a URL."
}

variable "consul_token" {
  type        = string
  default     = ""
  description = "Static Consul token (whoever may read the job can read it). Empty: by workload identity, or none."
}

variable "consul_identity" {
  type        = bool
  default     = false
  description = "Take the Consul token by Nomad's workload identity (`nomad setup consul`)."
}

variable "vault_address" {
  type        = string
  default     = ""
  description = "URL of Vault or OpenBao as the tasks reach it. Empty: no secrets from there."
}

variable "vault_token" {
  type        = string
  default     = ""
  description = "Static Vault token with jobs/gloo-policy.hcl (whoever may read the job can read it). Empty: by workload identity."
}

variable "vault_role" {
  type        = string
  default     = ""
  description = "Role of Vault's JWT method for Nomad's workload identity (`nomad setup vault`). Empty: a static token, or none."
}

variable "data_key" {
  type        = string
  default     = ""
  description = "Key by which secrets are kept on disk for a start without Vault, 32 bytes in base64 (whoever may read the job can read it). Empty: they are not kept."
}

variable "data_key_transit" {
  type        = string
  default     = ""
  description = "In place of data_key, a key of Vault's transit engine that wraps one, such as transit/gloo-nomad. The policy has the rights for that name."
}

variable "nomad_address" {
  type        = string
  default     = ""
  description = "URL of Nomad's HTTP API, for services that are registered in Nomad. Empty: Consul's services only."
}

variable "nomad_token" {
  type        = string
  default     = ""
  description = "Static Nomad token with read-job in the namespaces of the services (whoever may read the job can read it)."
}

variable "nomad_identity" {
  type        = bool
  default     = false
  description = "Take the Nomad token by workload identity (jobs/gloo-nomad-policy.hcl), and with no nomad_address reach Nomad by the task API."
}

variable "envoy_user" {
  type        = string
  default     = "envoy"
  description = "User of Envoy's container (driver docker). Root, if Gateways have ports below 1024."
}

variable "xds_port" {
  type        = number
  default     = 9977
  description = "Port that the Envoys ask for their configuration (service gloo-xds). 0: Nomad chooses; they follow."
}

variable "xds_tls" {
  type        = string
  default     = "plaintext"
  description = "How Envoys are answered. plaintext hands certificates' keys to whoever reaches xds_port: only where the clients' network is trusted. vault: mutual TLS, both certificates from Vault's PKI engine (docs/xds-tls.md)."

  validation {
    condition     = contains(["plaintext", "vault"], var.xds_tls)
    error_message = "The job has plaintext or vault for xds_tls."
  }
}

variable "xds_pki" {
  type        = object({ mount = string, gloo_role = string, proxy_role = string })
  default     = { mount = "pki", gloo_role = "gloo-xds", proxy_role = "gateway-proxy" }
  description = "Vault's PKI engine for xds_tls = vault, and its roles that issue xds_name and proxy_name."
}

variable "xds_name" {
  type        = string
  default     = "gloo-xds.service.consul"
  description = "Name in the certificate of the group gloo (xds_tls = vault)."
}

variable "proxy_name" {
  type        = string
  default     = "gateway-proxy.service.consul"
  description = "Name in the certificate of the Envoys (xds_tls = vault): who has it may ask for what they get."
}

variable "proxy_vault_role" {
  type        = string
  default     = ""
  description = "Role of Vault's JWT method for the Envoys' certificates (xds_tls = vault), with jobs/gateway-proxy-policy.hcl. Empty: the default one of Nomad's agents."
}

variable "admin_port" {
  type        = number
  default     = 0
  description = "Port of metrics, health and snapshots of the group gloo (9091 in Gloo Edge). 0: Nomad chooses."
}

variable "front_door_port" {
  type        = number
  default     = 0
  description = "Port of the front door's REST API (service gateway). 0: Nomad chooses."
}

variable "front_door_address" {
  type        = string
  default     = "127.0.0.1"
  description = "Address the front door listens on. It writes configuration: open it further only behind something that asks who is there."
}

variable "front_door_auth" {
  type        = string
  default     = "tokens"
  description = "What a bearer token of the front door is: tokens (front_door_tokens), or consul, whose ACL then decides, or nomad."
}

variable "front_door_tokens" {
  type        = string
  default     = ""
  description = "Accepted tokens, by commas (whoever may read the job can read them). Empty: everybody on loopback, and nowhere else."
}

variable "http_port" {
  type        = number
  default     = 8080
  description = "Port of the plain HTTP Gateway. It must be the bindPort of the Gateway object."
}

variable "https_port" {
  type        = number
  default     = 8443
  description = "Port of the HTTPS Gateway; of HTTP/3 as well (UDP) where a Gateway has it. It must be the bindPort of the Gateway object."
}

variable "envoy_admin_port" {
  type        = number
  default     = 19000
  description = "Port of Envoy's admin interface, on loopback only."
}

variable "metrics_port" {
  type        = number
  default     = 8081
  description = "Port of Envoy's /metrics and /ready."
}

variable "drain_seconds" {
  type        = number
  default     = 15
  description = "How long a stopping Envoy asks its clients to go elsewhere before it ends. Nomad's max_kill_timeout (30 s) limits it."
}

variable "max_connections" {
  type        = number
  default     = 50000
  description = "Connections of clients that one Envoy accepts; more are refused, so that it keeps its memory."
}

variable "gloo_resources" {
  type        = object({ cpu = number, memory = number })
  default     = { cpu = 500, memory = 512 }
  description = "MHz and MiB of each gloo-nomad task."
}

variable "proxy_resources" {
  type        = object({ cpu = number, memory = number })
  default     = { cpu = 1000, memory = 512 }
  description = "MHz and MiB of each Envoy."
}

variable "log_level" {
  type        = string
  default     = "info"
  description = "How much is logged: debug, info, warning or error."
}

locals {
  # Every task has Nomad's API at a socket: it is that of the client's own agent, and there whichever port it has.
  task_api      = var.nomad_identity ? "unix://$${NOMAD_SECRETS_DIR}/api.sock" : ""
  nomad_address = var.nomad_address == "" ? local.task_api : var.nomad_address

  environment = merge(
    {
      CONSUL_HTTP_ADDR = var.consul_address
      LOG_LEVEL        = var.log_level
    },
    var.consul_token == "" ? {} : { CONSUL_HTTP_TOKEN = var.consul_token },
    var.vault_address == "" ? {} : { VAULT_ADDR = var.vault_address },
    var.vault_token == "" ? {} : { VAULT_TOKEN = var.vault_token },
    local.nomad_address == "" ? {} : { NOMAD_ADDR = local.nomad_address },
    var.nomad_token == "" ? {} : { NOMAD_TOKEN = var.nomad_token },
  )
  front_door_tokens = var.front_door_tokens == "" ? {} : { GLOO_NOMAD_API_TOKENS = var.front_door_tokens }
  consul_identities = var.consul_identity ? ["default"] : []
  nomad_identities  = var.nomad_identity ? ["default"] : []
  vault_roles       = var.vault_role == "" ? [] : [var.vault_role]
  images            = var.driver == "docker" ? [var.gloo_image] : []
  commands          = var.driver == "docker" ? [] : [var.gloo_command]

  arguments = ["run", "--dir", "$${NOMAD_TASK_DIR}/settings", "--namespace", var.namespace, "--name", var.settings_name]

  # Mutual TLS between Envoys and gloo, if it is asked for: what each of them is told.
  secured          = var.xds_tls == "vault"
  xds_issue        = { mountPath = var.xds_pki.mount, role = var.xds_pki.gloo_role, commonName = var.xds_name, ttl = "72h" }
  xds_request      = local.secured ? jsonencode(local.xds_issue) : "{}"
  xds_client_roles = local.secured ? jsonencode({ (var.proxy_name) = "${var.namespace}~gateway-proxy" }) : "{}"
  xds_socket       = local.secured ? "transport_socket: ${jsonencode(local.xds_tls_socket)}" : ""
  xds_tls_socket = {
    name = "envoy.transport_sockets.tls"
    typed_config = {
      "@type" = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
      sni     = var.xds_name
      common_tls_context = {
        alpn_protocols = ["h2"]
        tls_params     = { tls_minimum_protocol_version = "TLSv1_2" }
        tls_certificate_sds_secret_configs = [{
          name       = "xds_identity"
          sds_config = { resource_api_version = "V3", path_config_source = { path = "{{ env `NOMAD_SECRETS_DIR` }}/xds-identity.yaml" } }
        }]
        combined_validation_context = {
          default_validation_context = { match_typed_subject_alt_names = [{ san_type = "DNS", matcher = { exact = var.xds_name } }] }
          validation_context_sds_secret_config = {
            name       = "xds_authority"
            sds_config = { resource_api_version = "V3", path_config_source = { path = "{{ env `NOMAD_SECRETS_DIR` }}/xds-authority.yaml" } }
          }
        }
      }
    }
  }

  # Both are of one answer of Vault, whose renewal Envoy follows as it follows where gloo-xds is.
  xds_files = !local.secured ? {} : {
    xds-identity  = <<-EOT
      {{ with secret "${var.xds_pki.mount}/issue/${var.xds_pki.proxy_role}" "common_name=${var.proxy_name}" "ttl=72h" }}
      resources:
        - "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
          name: xds_identity
          tls_certificate:
            certificate_chain: {inline_string: {{ .Data.certificate | toJSON }}}
            private_key: {inline_string: {{ .Data.private_key | toJSON }}}
      {{ end }}
    EOT
    xds-authority = <<-EOT
      {{ with secret "${var.xds_pki.mount}/issue/${var.xds_pki.proxy_role}" "common_name=${var.proxy_name}" "ttl=72h" }}
      resources:
        - "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
          name: xds_authority
          validation_context:
            trusted_ca: {inline_string: {{ .Data.issuing_ca | toJSON }}}
      {{ end }}
    EOT
  }

  # Where what is served is kept, for a start without Consul and Vault: it goes with the allocation.
  data_folder = "$${NOMAD_ALLOC_DIR}/data/gloo"

  # The Settings file of every gloo-nomad task. The Settings object in Consul KV is laid over it, live.
  settings = <<-EOT
    metadata:
      name: ${var.settings_name}
      namespace: ${var.namespace}
    discoveryNamespace: ${var.namespace}
    consulKvSource:
      rootKey: ${var.root_key}
    gloo:
      xdsBindAddr: {{ or (env "NOMAD_ADDR_xds") "127.0.0.1:0" }}
      proxyDebugBindAddr: 127.0.0.1:{{ or (env "NOMAD_PORT_debug") "0" }}
    extensions:
      configs:
        gloo-nomad:
          xdsTls: ${var.xds_tls}
          xdsTlsVault: ${local.xds_request}
          xdsClientRoles: ${local.xds_client_roles}
          adminBindAddr: {{ or (env "ADMIN_ADDRESS") (env "NOMAD_IP_admin") }}:{{ env "NOMAD_PORT_admin" }}
          frontDoorAuth: ${var.front_door_auth}
          frontDoorBindAddr: ${var.front_door_address}:{{ or (env "NOMAD_PORT_api") "0" }}
          dataKeyTransit: "${var.data_key_transit}"
  EOT

  # Starts Envoy. When Nomad stops it, clients are first told to connect elsewhere.
  envoy_script = <<-EOT
    ${var.envoy_command} -c "$NOMAD_TASK_DIR/envoy.yaml" --disable-hot-restart \
      --drain-time-s ${var.drain_seconds} --log-level ${var.log_level} &
    envoy=$!
    drain() {
      if exec 3<>/dev/tcp/127.0.0.1/${var.envoy_admin_port}; then
        printf 'POST /drain_listeners?graceful&skip_exit HTTP/1.1\r\nHost: admin\r\nContent-Length: 0\r\n\r\n' >&3
        sleep ${var.drain_seconds} &
        wait $!
      fi
      kill -TERM "$envoy"
    }
    trap drain TERM INT
    wait "$envoy"
    wait "$envoy"
  EOT

  # Where gloo-xds is. Envoy watches this file, so that it follows without a restart.
  xds_endpoints = <<-EOT
    resources:
      - "@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
        cluster_name: xds_cluster
        endpoints:
          - lb_endpoints:
              [{{ range service "gloo-xds" }}
              {endpoint: {address: {socket_address: {address: "{{ .Address }}", port_value: {{ .Port }}}}}},{{ end }}
              ]
  EOT

  bootstrap = <<-EOT
    node:
      id: "{{ env "NOMAD_ALLOC_ID" }}"
      cluster: gateway
      metadata:
        role: ${var.namespace}~gateway-proxy
      locality:
        region: "{{ env "NOMAD_REGION" }}"
        zone: "{{ env "NOMAD_DC" }}"
    admin:
      address: {socket_address: {address: 127.0.0.1, port_value: ${var.envoy_admin_port}}}
    dynamic_resources:
      ads_config:
        api_type: DELTA_GRPC
        transport_api_version: V3
        grpc_services:
          - envoy_grpc:
              cluster_name: xds_cluster
              retry_policy: {retry_back_off: {base_interval: 0.25s, max_interval: 5s}}
      cds_config: {ads: {}, resource_api_version: V3}
      lds_config: {ads: {}, resource_api_version: V3}
    static_resources:
      clusters:
        - name: xds_cluster
          type: EDS
          connect_timeout: 5s
          ${local.xds_socket}
          eds_cluster_config:
            eds_config:
              resource_api_version: V3
              path_config_source: {path: {{ env "NOMAD_TASK_DIR" }}/xds.yaml}
          typed_extension_protocol_options:
            envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
              "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
              explicit_http_config:
                http2_protocol_options: {connection_keepalive: {interval: 30s, timeout: 5s}}
          upstream_connection_options: {tcp_keepalive: {keepalive_time: 60}}
        - name: admin_port_cluster
          type: STATIC
          connect_timeout: 1s
          load_assignment:
            cluster_name: admin_port_cluster
            endpoints:
              - lb_endpoints:
                  - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: ${var.envoy_admin_port}}}}
      listeners:
        - name: prometheus
          address: {socket_address: {address: {{ env "NOMAD_IP_metrics" }}, port_value: {{ env "NOMAD_PORT_metrics" }}}}
          ignore_global_conn_limit: true
          filter_chains:
            - filters:
                - name: envoy.filters.network.http_connection_manager
                  typed_config:
                    "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                    stat_prefix: prometheus
                    codec_type: AUTO
                    route_config:
                      name: prometheus
                      virtual_hosts:
                        - name: prometheus
                          domains: ["*"]
                          routes:
                            - match: {path: /ready, headers: [{name: ":method", string_match: {exact: GET}}]}
                              route: {cluster: admin_port_cluster}
                            - match: {path: /metrics, headers: [{name: ":method", string_match: {exact: GET}}]}
                              route: {cluster: admin_port_cluster, prefix_rewrite: /stats/prometheus}
                    http_filters:
                      - name: envoy.filters.http.router
                        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
    overload_manager:
      resource_monitors:
        - name: envoy.resource_monitors.global_downstream_max_connections
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig
            max_active_downstream_connections: ${var.max_connections}
  EOT
}

job "gloo" {
  id          = var.job_name
  name        = var.job_name
  namespace   = var.nomad_namespace
  datacenters = var.datacenters
  type        = "service"

  update {
    max_parallel      = 1
    health_check      = "checks"
    min_healthy_time  = "5s"
    healthy_deadline  = "3m"
    progress_deadline = "6m"
    auto_revert       = true
  }

  # Reads the objects, secrets and services, and serves Envoy its configuration.
  group "gloo" {
    count = var.gloo_count

    ephemeral_disk {
      size    = 512
      sticky  = true
      migrate = true
    }

    network {
      mode = "host"
      port "xds" {
        static = var.xds_port
      }
      port "admin" {
        static = var.admin_port
      }
      port "debug" {}
    }

    service {
      name = "gloo-xds"
      port = "xds"
      tags = ["gloo", "xds", "grpc"]

      meta {
        admin_port = "$${NOMAD_PORT_admin}"
      }

      check {
        name     = "ready"
        type     = "http"
        port     = "admin"
        path     = "/readyz"
        interval = "2s"
        timeout  = "2s"
      }
    }

    shutdown_delay = "2s"

    restart {
      attempts = 10
      interval = "5m"
      delay    = "2s"
      mode     = "delay"
    }

    task "gloo" {
      driver       = var.driver
      kill_timeout = "15s"
      env          = merge(local.environment, var.data_key == "" ? {} : { GLOO_NOMAD_DATA_KEY = var.data_key })

      dynamic "config" {
        for_each = local.images
        content {
          image        = config.value
          network_mode = "host"
          args         = concat(local.arguments, ["--role", "gloo", "--data-dir", local.data_folder])
        }
      }
      dynamic "config" {
        for_each = local.commands
        content {
          command = config.value
          args    = concat(local.arguments, ["--role", "gloo", "--data-dir", local.data_folder])
        }
      }
      dynamic "consul" {
        for_each = local.consul_identities
        content {
          cluster = consul.value
        }
      }
      # Written into secrets/nomad_token and followed there: a new one needs no restart.
      dynamic "identity" {
        for_each = local.nomad_identities
        content {
          name = identity.value
          file = true
        }
      }
      dynamic "vault" {
        for_each = local.vault_roles
        content {
          role        = vault.value
          change_mode = "restart"
        }
      }

      template {
        destination = "local/settings/${var.namespace}/${var.settings_name}.yaml"
        data        = local.settings
        change_mode = "restart"
      }

      resources {
        cpu    = var.gloo_resources.cpu
        memory = var.gloo_resources.memory
      }
    }
  }

  # The front door for people: a REST API that validates an object by the whole translation before it writes it.
  group "gateway" {
    count = var.gateway_count

    network {
      mode = "host"
      port "api" {
        static = var.front_door_port
      }
      port "admin" {}
    }

    service {
      name    = "gateway"
      port    = "api"
      address = var.front_door_address
      tags    = ["gloo", "gateway"]

      check {
        name     = "ready"
        type     = "http"
        port     = "admin"
        path     = "/readyz"
        interval = "2s"
        timeout  = "2s"
      }
    }

    restart {
      attempts = 10
      interval = "5m"
      delay    = "2s"
      mode     = "delay"
    }

    task "gateway" {
      driver       = var.driver
      kill_timeout = "15s"
      env          = merge(local.environment, { ADMIN_ADDRESS = var.front_door_address }, local.front_door_tokens)

      dynamic "config" {
        for_each = local.images
        content {
          image        = config.value
          network_mode = "host"
          args         = concat(local.arguments, ["--role", "gateway"])
        }
      }
      dynamic "config" {
        for_each = local.commands
        content {
          command = config.value
          args    = concat(local.arguments, ["--role", "gateway"])
        }
      }
      dynamic "consul" {
        for_each = local.consul_identities
        content {
          cluster = consul.value
        }
      }
      dynamic "identity" {
        for_each = local.nomad_identities
        content {
          name = identity.value
          file = true
        }
      }
      dynamic "vault" {
        for_each = local.vault_roles
        content {
          role        = vault.value
          change_mode = "restart"
        }
      }

      template {
        destination = "local/settings/${var.namespace}/${var.settings_name}.yaml"
        data        = local.settings
        change_mode = "restart"
      }

      resources {
        cpu    = var.gloo_resources.cpu
        memory = var.gloo_resources.memory
      }
    }
  }

  # Finds services and writes Upstreams for them.
  group "discovery" {
    count = var.discovery_count

    network {
      mode = "host"
      port "admin" {}
    }

    # Nobody calls discovery: its check is Nomad's own, so that Consul does not list it.
    service {
      provider = "nomad"
      name     = "gloo-discovery"
      port     = "admin"

      check {
        name     = "ready"
        type     = "http"
        path     = "/readyz"
        interval = "2s"
        timeout  = "2s"
      }
    }

    restart {
      attempts = 10
      interval = "5m"
      delay    = "2s"
      mode     = "delay"
    }

    task "discovery" {
      driver       = var.driver
      kill_timeout = "15s"
      env          = local.environment

      dynamic "config" {
        for_each = local.images
        content {
          image        = config.value
          network_mode = "host"
          args         = concat(local.arguments, ["--role", "discovery"])
        }
      }
      dynamic "config" {
        for_each = local.commands
        content {
          command = config.value
          args    = concat(local.arguments, ["--role", "discovery"])
        }
      }
      dynamic "consul" {
        for_each = local.consul_identities
        content {
          cluster = consul.value
        }
      }
      dynamic "identity" {
        for_each = local.nomad_identities
        content {
          name = identity.value
          file = true
        }
      }
      dynamic "vault" {
        for_each = local.vault_roles
        content {
          role        = vault.value
          change_mode = "restart"
        }
      }

      template {
        destination = "local/settings/${var.namespace}/${var.settings_name}.yaml"
        data        = local.settings
        change_mode = "restart"
      }

      resources {
        cpu    = var.gloo_resources.cpu
        memory = var.gloo_resources.memory
      }
    }
  }

  # Stock Envoy.
  group "gateway-proxy" {
    count = var.proxy_count

    network {
      mode = "host"
      port "http" {
        static = var.http_port
      }
      port "https" {
        static = var.https_port
      }
      port "admin" {
        static = var.envoy_admin_port
      }
      port "metrics" {
        static = var.metrics_port
      }
    }

    service {
      name = "gateway-proxy"
      port = "http"
      tags = ["gloo", "http"]

      meta {
        metrics_port = "$${NOMAD_PORT_metrics}"
      }

      check {
        name     = "ready"
        type     = "http"
        port     = "metrics"
        path     = "/ready"
        interval = "2s"
        timeout  = "2s"
      }
    }

    service {
      name = "gateway-proxy"
      port = "https"
      tags = ["gloo", "https"]

      check {
        name     = "ready"
        type     = "http"
        port     = "metrics"
        path     = "/ready"
        interval = "2s"
        timeout  = "2s"
      }
    }

    # Consul forgets this Envoy first, and only then is it told to drain.
    shutdown_delay = "3s"

    restart {
      attempts = 10
      interval = "5m"
      delay    = "2s"
      mode     = "delay"
    }

    task "envoy" {
      driver       = var.driver
      user         = var.driver == "docker" ? var.envoy_user : ""
      kill_timeout = "${var.drain_seconds + 10}s"

      dynamic "config" {
        for_each = var.driver == "docker" ? [var.envoy_image] : []
        content {
          image        = config.value
          network_mode = "host"
          entrypoint   = ["bash"]
          args         = ["$${NOMAD_TASK_DIR}/envoy.sh"]
        }
      }
      dynamic "config" {
        for_each = var.driver == "docker" ? [] : ["bash"]
        content {
          command = config.value
          args    = ["$${NOMAD_TASK_DIR}/envoy.sh"]
        }
      }
      dynamic "consul" {
        for_each = local.consul_identities
        content {
          cluster = consul.value
        }
      }

      dynamic "vault" {
        for_each = local.secured ? [var.proxy_vault_role] : []
        content {
          role        = vault.value
          env         = false
          change_mode = "noop"
        }
      }
      dynamic "template" {
        for_each = local.xds_files
        content {
          destination = "secrets/${template.key}.yaml"
          data        = template.value
          change_mode = "noop"
        }
      }

      template {
        destination = "local/envoy.sh"
        data        = local.envoy_script
        change_mode = "restart"
      }
      template {
        destination = "local/envoy.yaml"
        data        = local.bootstrap
        change_mode = "restart"
      }
      template {
        destination = "local/xds.yaml"
        data        = local.xds_endpoints
        change_mode = "noop"
        wait {
          min = "250ms"
          max = "2s"
        }
      }

      resources {
        cpu    = var.proxy_resources.cpu
        memory = var.proxy_resources.memory
      }
    }
  }
}
