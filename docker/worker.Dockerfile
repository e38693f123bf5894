# A worker: claims tasks, runs a coding CLI in a fresh clone, goes home when idle (exit 0).
#
#   docker build -f docker/worker.Dockerfile -t tinytown-worker .
#       --build-arg AGENTS="claude codex"       CLIs to bake in: claude, codex, opencode (none)
#       --build-arg PACKAGES="openssh-client"   more of Debian, for the CLIs to work with (none)
#       --build-arg REQUIREMENTS=town           the townhall in the same image, as Fly wants it
#
# Another CLI can be mounted instead: put its program into /opt/agents/bin (read-only will do), or
# run any command with TINYTOWN_AGENT=command. amd64 and arm64; the classic builder and BuildKit.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG REQUIREMENTS=worker
WORKDIR /build
COPY docker/build.sh docker/
RUN sh docker/build.sh system binutils
COPY requirements/ requirements/
RUN sh docker/build.sh pins ${REQUIREMENTS}
COPY pyproject.toml README.md LICENSE ./
COPY src/ src/
COPY notifiers/ notifiers/
COPY workers/ workers/
RUN sh docker/build.sh town

FROM ${BASE} AS agents
ARG AGENTS=""
WORKDIR /build
COPY requirements/development.txt requirements/
COPY docker/agents.sh docker/
COPY docker/agents/ docker/agents/
RUN sh docker/agents.sh ${AGENTS}

# What a worker stands on: git, which it cannot do without, and what was asked for.
FROM ${BASE} AS ground
ARG PACKAGES=""
COPY docker/build.sh /opt/
RUN sh /opt/build.sh system ca-certificates git tini ${PACKAGES} \
 && sh /opt/build.sh user

FROM ground AS worker
LABEL org.opencontainers.image.title="tinytown worker" \
      org.opencontainers.image.description="Runs a coding CLI for a tinytown and goes home when idle" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"
COPY --from=agents /opt/agents /opt/agents
COPY --from=build /town /town
RUN sh /opt/build.sh load
# HOME holds the logins of the CLIs, /work the rooms of the tasks: always at the same path, because
# a CLI finds a session again only where it left it.
ENV PATH=/town/bin:/opt/agents/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DISABLE_AUTOUPDATER=1 \
    TINYTOWN_WORK_DIR=/work
USER 10001:10001
WORKDIR /home/town
# Its leases are its health check: the town sees them lapse, and nothing listens here.
HEALTHCHECK NONE
ENTRYPOINT ["tini", "--"]
CMD ["tt", "agent"]
