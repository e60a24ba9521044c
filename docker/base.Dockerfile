# Python 3.11 and Java 17 on Debian, for clusters that have no such image: make base-image
ARG DEBIAN_IMAGE=debian:bookworm-slim
FROM ${DEBIAN_IMAGE}
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends ca-certificates libgomp1 openjdk-17-jre-headless procps python3 python3-venv tini \
    && rm -rf /var/lib/apt/lists/* && ln -s /usr/bin/python3 /usr/local/bin/python
