# syntax=docker/dockerfile:1
# The one image of our pods: workers, scheduler, exporter, database steps. docs/bootstrap.md tells how it is built and pushed.
#
# The base is pinned by the digest of its multi-platform index. To refresh it:
#   docker buildx imagetools inspect python:3.13-slim --format '{{.Manifest.Digest}}'
ARG BASE=python:3.13-slim@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285

FROM ${BASE} AS build
ARG UV_VERSION=0.13.9
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never \
    UV_PROJECT_ENVIRONMENT=/application/.venv PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /application
RUN pip install "uv==${UV_VERSION}"
COPY pyproject.toml uv.lock ./
# What the programs import, and nothing that deploys them; wheels only, so that no compiler is needed.
RUN uv sync --frozen --no-default-groups --no-build
COPY connections/ connections/
COPY history/ history/
COPY migrations/ migrations/
COPY workers/ workers/
RUN .venv/bin/python -m compileall -q connections history migrations workers \
    && rm pyproject.toml uv.lock

FROM ${BASE}
# What signs the certificates of RDS. AWS adds authorities now and then: download it, look at it, and put the new sum here.
ADD --checksum=sha256:e5bb2084ccf45087bda1c9bffdea0eb15ee67f0b91646106e466714f9de3c7e3 --chmod=0444 \
    https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem /application/rds-ca.pem
COPY --from=build /application /application
# pip is of no use where nothing can be written.
RUN rm -rf /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip /usr/local/bin/pip*
ENV PATH=/application/.venv/bin:$PATH \
    PGSSLROOTCERT=/application/rds-ca.pem \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /application
# A number, so that Kubernetes can see that it is not root. Nothing of the image belongs to it.
USER 65532:65532
# The pods say what to run.
CMD ["python", "-m", "workers", "--help"]
