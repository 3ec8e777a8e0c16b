# The suite in a container. The programs are built outside (scripts/build-image.sh, or any build on the same Debian release) and
# copied in, so the image holds no compiler; it needs only libc and libstdc++, which every Debian base has.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}

RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin mms \
    && mkdir -p /models /data \
    && chown mms:mms /data

COPY mms mms-worker /usr/local/bin/
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/mms/

# Inside the container every address; what is reachable from outside is decided by the ports that are published.
ENV BIND_ADDRESS=0.0.0.0 MODELS_DIR=/models DATA_DIR=/data
USER mms
WORKDIR /data
VOLUME ["/models", "/data"]
EXPOSE 9901 9902 9903

# A real request through the main port; needs no curl. `mms serve` sets its own readiness by the same means.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["mms", "ping", "--timeout", "3"]

STOPSIGNAL SIGTERM
ENTRYPOINT ["mms"]
CMD ["serve"]
