# One Twinlog node. Two stages: the first makes a virtual environment with the base's own python3, the second has
# only that. Written for the classic builder too, so nothing here needs BuildKit.
#
#   docker build -t twinlog:local .
#   docker run -v data:/data -v "$PWD/.docker-pair:/run/secrets:ro" -p 127.0.0.1:6900:6900 twinlog:local \
#       serve --client 0.0.0.0:6900 --client-keys /run/secrets/client.key
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /src
RUN python3 -m venv /opt/twinlog
# Dependencies first, in a layer of their own: they change far less often than the code.
COPY pyproject.toml ./
RUN python3 -c "import tomllib; print('\n'.join(tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies']))" > requirements.txt \
    && /opt/twinlog/bin/pip install --no-cache-dir --disable-pip-version-check -r requirements.txt
# The native kernel needs a compiler. Where none can be had the image runs without it, slower and otherwise the same.
RUN command -v cc > /dev/null \
    || { apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev python3-dev; } > /dev/null 2>&1 \
    || echo "no compiler: this image runs without the native kernel"
COPY . .
RUN /opt/twinlog/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps . \
    && /opt/twinlog/bin/python -m compileall -q /opt/twinlog/lib

FROM ${BASE_IMAGE}
COPY --from=build /opt/twinlog /opt/twinlog
COPY ops/compose/health.py /opt/twinlog/bin/twinlog-health
# A fixed number, so that volumes and Kubernetes' fsGroup can name it.
RUN echo 'twinlog:x:10001:10001:Twinlog:/data:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'twinlog:x:10001:' >> /etc/group \
    && chmod 755 /opt/twinlog/bin/twinlog-health && mkdir -p /data && chown 10001:10001 /data
ENV PATH=/opt/twinlog/bin:$PATH PYTHONUNBUFFERED=1 TWINLOG_DATA=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
# 6902, admin HTTP, is for inside: it asks for no key, so `docker run -P` does not publish it.
EXPOSE 6900 6901
STOPSIGNAL SIGTERM
# While it opens its databases a node is not ready, which counts only after the start period: a long log takes its time.
HEALTHCHECK --interval=5s --timeout=5s --start-period=120s --retries=3 CMD ["twinlog-health"]
ENTRYPOINT ["twinlog"]
CMD ["serve"]
