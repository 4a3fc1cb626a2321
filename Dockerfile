# syntax=docker/dockerfile:1
# Build: docker build -t ingestd .     Run: docker run -v ./ingestd.toml:/etc/ingestd/ingestd.toml:ro -v ingestd:/var/lib/ingestd ingestd

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/ingestd
WORKDIR /source
# The dependencies first: they change less often than the source.
COPY requirements-runtime.lock ./
RUN /opt/ingestd/bin/pip install --require-hashes -r requirements-runtime.lock
COPY requirements-build.lock ./
RUN python -m venv /build && /build/bin/pip install --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY config config
COPY sql sql
COPY ingestd ingestd
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/ingestd/bin/pip install --no-deps /wheels/*.whl

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin ingestd \
 && install -d -o ingestd -g ingestd -m 0700 /var/lib/ingestd
COPY --from=build /opt/ingestd /opt/ingestd
ENV PATH=/opt/ingestd/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
VOLUME /var/lib/ingestd
EXPOSE 9108
STOPSIGNAL SIGTERM
# Liveness only: a database that is down must not restart the capture.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9108/livez', timeout=4)"]
ENTRYPOINT ["ingestd"]
CMD ["run", "-c", "/etc/ingestd/ingestd.toml"]
