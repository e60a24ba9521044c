# PostgreSQL from Debian, where the public image can't be pulled; see helm_values/charts/postgres.
ARG BASE_IMAGE=usedcars/base:0.1.0
FROM ${BASE_IMAGE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends bind9-dnsutils postgresql-15 \
    && rm -rf /var/lib/apt/lists/* /var/lib/postgresql/15 \
    && echo 'pg:x:1001:1001:PostgreSQL:/tmp:/usr/sbin/nologin' >> /etc/passwd && echo 'pg:x:1001:' >> /etc/group
ENV PATH=/usr/lib/postgresql/15/bin:$PATH
USER 1001:1001
EXPOSE 5432
ENTRYPOINT ["tini", "--"]
CMD ["postgres"]
