# gatekeeper in a container: one process, not root, no shell needed, nothing written outside of what is mounted.
#
#     docker build -t gatekeeper:0.1.0 .
#     docker run --read-only -p 8080:8080 -e BETTER_AUTH_SECRET -v ./config.yaml:/etc/gatekeeper/config.yaml:ro gatekeeper:0.1.0

FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# Dependencies have a layer of their own: it changes with the locks alone.  Wheels only, so no compiler is needed.
COPY locks/build.txt locks/runtime.txt locks/
RUN python -m venv --without-pip /opt/gatekeeper \
 && python -m pip install -q --require-hashes --only-binary :all: -r locks/build.txt \
 && python -m pip --python /opt/gatekeeper/bin/python install -q --no-compile --require-hashes --only-binary :all: \
        -r locks/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY gatekeeper gatekeeper
# Nothing can write bytecode later, so it is made here; unchecked, as these sources never change.
RUN python -m pip wheel -q --no-deps --no-build-isolation -w dist . \
 && python -m pip --python /opt/gatekeeper/bin/python install -q --no-compile --no-index --no-deps dist/*.whl \
 && /opt/gatekeeper/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/gatekeeper/lib

FROM python:3.11-slim
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="gatekeeper" \
      org.opencontainers.image.description="A session-verifying reverse proxy and forward-auth sidecar that speaks Better Auth's session format" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}"
# What installs software goes.  The standard library gets the bytecode that the base leaves out: without it, each start
# and each health check would compile what they import.  The folder is where a volume with the app's database belongs:
# a new volume takes its owner from here.
RUN python -m pip uninstall -q -y --root-user-action=ignore pip setuptools wheel \
 && python -c "import ensurepip, shutil; shutil.rmtree(ensurepip.__path__[0])" \
 && python -m compileall -q -x '/(site|dist)-packages/|/idlelib/|/lib2to3/|/test/|/turtledemo/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
 && install -d -o 65532 -g 65532 /var/lib/gatekeeper
COPY --from=build /opt/gatekeeper /opt/gatekeeper
ENV PATH=/opt/gatekeeper/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["gatekeeper", "health", "-c", "/etc/gatekeeper/config.yaml"]
ENTRYPOINT ["gatekeeper"]
CMD ["run", "-c", "/etc/gatekeeper/config.yaml"]
