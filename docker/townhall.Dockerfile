# The townhall: serves the API, keeps deadlines, pushes to phones. Wants REDIS_URL and 256 MB.
#
#   docker build -f docker/townhall.Dockerfile -t tinytown-townhall .
#
# amd64 and arm64; the classic builder and BuildKit. docs/deploy.md tells how to run it.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /build
COPY docker/build.sh docker/
RUN sh docker/build.sh system binutils
COPY requirements/ requirements/
RUN sh docker/build.sh pins town
COPY pyproject.toml README.md LICENSE ./
COPY src/ src/
COPY notifiers/ notifiers/
COPY workers/ workers/
RUN sh docker/build.sh town

FROM ${BASE}
LABEL org.opencontainers.image.title="tinytown townhall" \
      org.opencontainers.image.description="The always-on process of a tinytown: API, deadlines, pushes" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"
COPY docker/build.sh /opt/
RUN sh /opt/build.sh system tini \
 && sh /opt/build.sh user
COPY docker/gate.py /opt/
COPY --from=build /town /town
RUN sh /opt/build.sh load
ENV PATH=/town/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TINYTOWN_HOST=0.0.0.0
USER 10001:10001
WORKDIR /home/town
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-I", "-c", "import os, urllib.request as web; port = os.environ.get('TINYTOWN_PORT') or os.environ.get('PORT') or '8080'; web.urlopen(f'http://127.0.0.1:{port}/health', timeout=4)"]
# tini passes signals on and buries orphans; a platform that replaces the command keeps it in front.
ENTRYPOINT ["tini", "--"]
CMD ["townhall"]
