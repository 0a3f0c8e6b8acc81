# Every image of replyrate, a target for each:
#   docker build --target fetcher .          or matcher, aggregator, portal, cli, demo
# Plain syntax, so that BuildKit and the classic builder make the same images. Down to services/common all images share
# their layers; above that each one holds exactly the rooms that its process imports (a test compares the two).
# Build arguments: a pinned base: PYTHON_DIGEST=@sha256:…; a mirror: REGISTRY=mirror.example/; OpenTelemetry: TELEMETRY=yes
ARG REGISTRY=
ARG PYTHON_TAG=3.11-slim-bookworm
ARG PYTHON_DIGEST=

# The libraries, without pip and without what only a debugger reads.
FROM ${REGISTRY}python:${PYTHON_TAG}${PYTHON_DIGEST} AS packages
ARG TELEMETRY=
COPY deploy/strip_libraries.py /
COPY requirements/runtime.txt requirements/telemetry.txt /requirements/
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --quiet --no-cache-dir --disable-pip-version-check \
        --require-hashes --only-binary :all: -r /requirements/runtime.txt $(test "$TELEMETRY" != yes || echo "-r /requirements/telemetry.txt") \
    && python /strip_libraries.py /opt/venv

# What all images share.
FROM ${REGISTRY}python:${PYTHON_TAG}${PYTHON_DIGEST} AS base
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    REPLYRATE_HTTP__HOST=0.0.0.0 REPLYRATE_HTTP__PORT=8080
WORKDIR /app
COPY --from=packages /opt/venv /opt/venv
COPY pyproject.toml ./
COPY schemas schemas
COPY services/__init__.py services/
COPY services/common services/common
RUN python -m compileall -q services schemas

# What the services share.
FROM base AS service
STOPSIGNAL SIGTERM
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=10s --start-period=60s --retries=6 \
    CMD ["python", "-c", "import http.client as h, sys; c = h.HTTPConnection('127.0.0.1', 8080, timeout=4); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]

# The fetcher: reads Sent folders over IMAP and publishes what was sent.
FROM service AS fetcher
COPY services/providers services/providers
COPY services/mail services/mail
COPY services/imap services/imap
COPY services/signin services/signin
COPY services/registry services/registry
COPY services/connect services/connect
COPY services/fetcher services/fetcher
RUN python -m compileall -q services
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="replyrate fetcher" \
    org.opencontainers.image.description="Reads Sent folders over IMAP, headers only, and publishes what was sent." \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"
# A number, so that an orchestrator sees that it is not root; group 0, so that any other number works as well.
USER 10001:0
ENTRYPOINT ["python", "-m", "services.fetcher"]

# The matcher: joins sent messages with inquiries.
FROM service AS matcher
COPY services/dead_letters services/dead_letters
COPY services/matcher services/matcher
RUN python -m compileall -q services \
    && install -d -m 0775 -o 10001 -g 0 /var/lib/replyrate
ENV REPLYRATE_MATCHER__DATA_DIR=/var/lib/replyrate/matcher
VOLUME /var/lib/replyrate
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="replyrate matcher" \
    org.opencontainers.image.description="Joins sent messages with inquiries." \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"
USER 10001:0
ENTRYPOINT ["python", "-m", "services.matcher"]

# What writes and reads the Parquet files of the archive, without what it does not need of that library.
FROM packages AS archive-packages
COPY requirements/archive.txt /requirements/
RUN pip --python /opt/venv/bin/python install --quiet --no-cache-dir --disable-pip-version-check \
        --target /opt/archive --no-deps --require-hashes --only-binary :all: -r /requirements/archive.txt \
    && cd /opt/archive/pyarrow \
    && rm -rf tests include includes src *flight* *s3* libarrow_python.so libarrow_python.so.*.*.* \
    && python /strip_libraries.py /opt/archive

# The aggregator: keeps the ledger and the rates in Postgres.
FROM service AS aggregator
COPY --from=archive-packages /opt/archive /opt/archive
ENV PYTHONPATH=/opt/archive
COPY services/dead_letters services/dead_letters
COPY services/providers services/providers
COPY services/aggregator services/aggregator
RUN python -m compileall -q services \
    && install -d -m 0775 -o 10001 -g 0 /var/lib/replyrate/archive
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="replyrate aggregator" \
    org.opencontainers.image.description="Keeps the ledger and the reply rates in Postgres." \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"
USER 10001:0
ENTRYPOINT ["python", "-m", "services.aggregator"]

# The command line: creates roles, schema and topics (init), and does what an operator does.
# It registers and tests mailboxes itself, joins dumps with the matcher's code and judges with the aggregator's (replay).
FROM base AS cli
COPY --from=archive-packages /opt/archive /opt/archive
ENV PYTHONPATH=/opt/archive
COPY services/dead_letters services/dead_letters
COPY services/inquiries services/inquiries
COPY services/providers services/providers
COPY services/mail services/mail
COPY services/imap services/imap
COPY services/signin services/signin
COPY services/registry services/registry
COPY services/connect services/connect
COPY services/matcher services/matcher
COPY services/aggregator services/aggregator
COPY services/recount services/recount
COPY services/standalone services/standalone
COPY services/cli services/cli
RUN python -m compileall -q services
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="replyrate" \
    org.opencontainers.image.description="The command line of replyrate: set-up, mailboxes, numbers." \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"
USER 10001:0
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m", "services.cli"]

# The portal has libraries of its own, so that the other images stay as they are. What the venv has already is not repeated.
FROM packages AS portal-packages
COPY requirements/portal.txt /requirements/
RUN pip --python /opt/venv/bin/python install --quiet --no-cache-dir --disable-pip-version-check \
        --prefix /opt/new --require-hashes --only-binary :all: -r /requirements/portal.txt \
    && mv /opt/new/lib/python*/site-packages /opt/portal \
    && python /strip_libraries.py /opt/portal

# The portal: web pages for sellers and the HTTP API for platforms. It explains numbers with the aggregator's code.
FROM service AS portal
COPY --from=portal-packages /opt/portal /opt/portal
ENV PYTHONPATH=/opt/portal
EXPOSE 8480
COPY services/dead_letters services/dead_letters
COPY services/inquiries services/inquiries
COPY services/providers services/providers
COPY services/mail services/mail
COPY services/imap services/imap
COPY services/signin services/signin
COPY services/registry services/registry
COPY services/connect services/connect
COPY services/aggregator services/aggregator
COPY services/portal services/portal
RUN python -m compileall -q services
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="replyrate portal" \
    org.opencontainers.image.description="Web pages for sellers and the HTTP API for platforms." \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"
USER 10001:0
ENTRYPOINT ["python", "-m", "services.portal"]

# The demo of the stack: the mail server of the invented sellers, and the process that plays them. The last targets,
# because the classic builder also builds every target before the requested one.
FROM packages AS demo-packages
COPY requirements/demo.txt /requirements/
RUN pip --python /opt/venv/bin/python install --quiet --no-cache-dir --disable-pip-version-check \
        --target /opt/demo --no-deps --require-hashes --only-binary :all: -r /requirements/demo.txt \
    && python /strip_libraries.py /opt/demo

# It registers mailboxes as the command line does; the recount takes the aggregator's rule sets.
FROM base AS demo
COPY --from=demo-packages /opt/demo /opt/demo
ENV PYTHONPATH=/opt/demo
COPY services/dead_letters services/dead_letters
COPY services/providers services/providers
COPY services/mail services/mail
COPY services/imap services/imap
COPY services/signin services/signin
COPY services/registry services/registry
COPY services/connect services/connect
COPY services/matcher services/matcher
COPY services/aggregator services/aggregator
COPY services/recount services/recount
COPY services/standalone services/standalone
RUN python -m compileall -q services \
    && install -d -m 0775 -o 10001 -g 0 /var/lib/replyrate /etc/replyrate/imap-ca
VOLUME /var/lib/replyrate
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="replyrate demo" \
    org.opencontainers.image.description="Invented sellers with their mail server, for a look at replyrate." \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"
USER 10001:0
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m", "services.standalone.demo.stack"]
