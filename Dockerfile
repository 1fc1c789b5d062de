# One image, every component: `bursar sidecar`, `bursar collector`, `bursar dashboard`.
# Nothing in it is fetched but the pinned packages, each checked against its hash.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /src
# For the parts in C; the image that is kept has no compiler.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements/tools.txt requirements/dashboard.txt requirements/gpu.txt requirements/
RUN python -m venv /opt/tools \
    && /opt/tools/bin/pip install --require-hashes -r requirements/tools.txt \
    && python -m venv --without-pip /opt/bursar \
    && /opt/tools/bin/uv pip install --python /opt/bursar/bin/python --require-hashes -r requirements/dashboard.txt -r requirements/gpu.txt
COPY pyproject.toml README.md LICENSE ./
COPY sidecar sidecar
COPY collector collector
COPY alerts alerts
COPY dashboards dashboards
COPY inference inference
COPY scripts/setup/native.py scripts/setup/native.py
# The wheel is built by the pinned back end, and installed with nothing left to resolve.
RUN /opt/tools/bin/python -m hatchling build --target wheel \
    && /opt/tools/bin/uv pip install --python /opt/bursar/bin/python --no-deps dist/*.whl \
    && /opt/bursar/bin/python -m compileall -q /opt/bursar/lib \
    && /opt/bursar/bin/python -c 'import sidecar.native; assert sidecar.native.READ_BY == "C and Python"'

FROM python:${PYTHON}-slim
COPY --from=build /opt/bursar /opt/bursar
RUN groupadd --system --gid 10001 bursar \
    && useradd --system --uid 10001 --gid bursar --no-create-home --home-dir /tmp bursar \
    && install -d -o bursar -g bursar -m 0700 /var/lib/bursar
# Streamlit and others write their scratch files to HOME; the root file system may be read-only.
ENV PATH=/opt/bursar/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    BURSAR_CONFIG=/etc/bursar/bursar.yaml \
    BURSAR_DATA_DIR=/var/lib/bursar
USER bursar
WORKDIR /var/lib/bursar
VOLUME /var/lib/bursar
EXPOSE 4000 4001 4010 8501
ENTRYPOINT ["bursar"]
CMD ["sidecar", "--config", "/etc/bursar/bursar.yaml"]
