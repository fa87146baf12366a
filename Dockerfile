# The server of a model as an image, at the root, where `docker build .` looks. docs/serve.md has the commands.

# The Python that the tests run with.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-trixie AS base

# torch is by far the largest layer: nothing but its pin makes it anew.
FROM base AS dependencies
WORKDIR /build
RUN python -m venv --without-pip /opt/unclip
COPY constraints.txt ./
# `cpu` takes torch from its index of CPU builds, `cuda` the default build, which brings CUDA along.
ARG DEVICE=cpu
ARG CPU_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=cache,target=/root/.cache/pip \
    case "${DEVICE}" in \
        cpu) set -- --extra-index-url "${CPU_INDEX}" ;; \
        cuda) set -- ;; \
        *) echo "DEVICE=${DEVICE} is unknown; use cpu or cuda." >&2; exit 1 ;; \
    esac; \
    pip --python /opt/unclip/bin/python install -c constraints.txt "$@" torch
COPY pyproject.toml ./
# More packages, with spaces between, such as the driver of a database.
ARG PACKAGES=""
RUN python -c "import os, tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    extras = project['optional-dependencies']; wanted = project['dependencies'] + extras['serve'] + extras['safety']; \
    print(*(one for one in wanted if not one.startswith('unclip[')), *os.environ['PACKAGES'].split(), sep='\n')" \
    > requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/unclip/bin/python install -c constraints.txt -r requirements.txt

FROM base AS package
WORKDIR /build
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --wheel-dir /wheels .

FROM base AS server
RUN useradd --uid 10001 --user-group --no-log-init --home-dir /var/lib/unclip --shell /usr/sbin/nologin unclip \
    && install -d -o unclip -g unclip -m 0700 /var/lib/unclip
COPY --from=dependencies /opt/unclip /opt/unclip
# Last, so that a change of the package makes a small layer.
RUN --mount=type=bind,from=package,source=/wheels,target=/wheels \
    pip --python /opt/unclip/bin/python install --no-cache-dir --no-index --no-deps /wheels/*.whl
# Models of the hub are kept in the volume; the one that ships needs no network.
ENV PATH=/opt/unclip/bin:${PATH} \
    GRADIO_TEMP_DIR=/var/lib/unclip/studio \
    HF_HOME=/var/lib/unclip/hub
USER 10001:10001
WORKDIR /var/lib/unclip
VOLUME /var/lib/unclip
EXPOSE 8000
STOPSIGNAL SIGTERM
# Not by urllib, which would ask the proxy of the environment.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-IS", "-c", "import http.client as h, sys; c = h.HTTPConnection('127.0.0.1', 8000, timeout=8); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
# Options after the image's name are further options of `unclip serve`.
ENTRYPOINT ["unclip", "serve", "--host", "0.0.0.0", "--port", "8000", "--store", "/var/lib/unclip"]
CMD ["--model", "emoji"]
