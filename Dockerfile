# syntax=docker/dockerfile:1

FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /source
COPY Cargo.toml Cargo.lock ./
COPY src src
# The binary leaves the cache mount, which is not part of the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/source/target,sharing=locked \
    # Sources that are older than what the cache was built of would not be built.
    touch src/*.rs && \
    cargo build --locked --release --bin redlockd && \
    install -D target/release/redlockd /out/redlockd && \
    install -d -o 65532 -g 65532 /out/data

FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="redlockd" \
      org.opencontainers.image.description="Distributed locks over HTTP, with fencing tokens, on a quorum of Redis or Valkey nodes" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /out/redlockd /usr/local/bin/redlockd
COPY --from=build --chown=65532:65532 /out/data /var/lib/redlockd
# Beyond the container it wants tokens, or to be told REDLOCKD_INSECURE_NO_AUTH: without either it says so and ends.
ENV REDLOCKD_LISTEN=0.0.0.0:8080 \
    REDLOCKD_DATA_DIR=/var/lib/redlockd
VOLUME /var/lib/redlockd
EXPOSE 8080
USER 65532:65532
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/usr/local/bin/redlockd", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/redlockd"]
