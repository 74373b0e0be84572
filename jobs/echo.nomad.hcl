# A small HTTP service for trying routes: it answers what it was asked. Consul knows it as `echo`.
#
#   nomad job run jobs/echo.nomad.hcl

variable "job_name" {
  type        = string
  default     = "echo"
  description = "Name of this job."
}

variable "service" {
  type        = string
  default     = "echo"
  description = "Name of the service in Consul."
}

variable "tags" {
  type        = list(string)
  default     = []
  description = "Tags of the service."
}

variable "datacenters" {
  type        = list(string)
  default     = ["*"]
  description = "Nomad datacenters to run in."
}

variable "count" {
  type        = number
  default     = 2
  description = "Instances."
}

variable "driver" {
  type        = string
  default     = "docker"
  description = "Task driver: docker, or raw_exec."
}

variable "image" {
  type        = string
  default     = "gloo-nomad:0.1.0"
  description = "Image that has gloo-nomad installed (driver docker)."
}

variable "python" {
  type        = string
  default     = "python3"
  description = "A Python that has gloo-nomad installed: on the clients (driver raw_exec) or in the image (driver docker)."
}

locals {
  arguments = [
    "-m", "gloo_nomad.demo.echo",
    "--address", "$${NOMAD_IP_http}", "--port", "$${NOMAD_PORT_http}", "--name", "$${NOMAD_ALLOC_NAME}",
  ]
}

job "echo" {
  id          = var.job_name
  name        = var.job_name
  datacenters = var.datacenters
  type        = "service"

  update {
    max_parallel     = 1
    health_check     = "checks"
    min_healthy_time = "2s"
  }

  group "echo" {
    count = var.count

    network {
      mode = "host"
      port "http" {}
    }

    service {
      name = var.service
      port = "http"
      tags = var.tags

      check {
        type     = "http"
        path     = "/health"
        interval = "1s"
        timeout  = "1s"
      }
    }

    # Consul forgets the instance first; Envoy has stopped using it when it ends.
    shutdown_delay = "3s"

    task "echo" {
      driver = var.driver

      dynamic "config" {
        for_each = var.driver == "docker" ? [var.image] : []
        content {
          image        = config.value
          network_mode = "host"
          entrypoint   = [var.python]
          args         = local.arguments
        }
      }
      dynamic "config" {
        for_each = var.driver == "docker" ? [] : [var.python]
        content {
          command = config.value
          args    = local.arguments
        }
      }

      resources {
        cpu    = 50
        memory = 64
      }
    }
  }
}
