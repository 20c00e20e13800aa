# whymask in a container, for a CPU or (--build-arg DEVICE=cuda) a GPU of NVIDIA; docs/install.md says how to use it.
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS build
ARG DEVICE=cpu
ARG EXTRAS=dense,formats,map,onnx
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir uv==0.13.9
COPY pyproject.toml requirements.lock README.md LICENSE /source/
COPY src /source/src
# The tested versions. From PyPI torch comes with CUDA, several GB; PyTorch's own index has it for a CPU alone.
RUN case "${DEVICE}" in cpu) torch="--torch-backend=cpu" ;; cuda) torch="" ;; \
        *) echo "DEVICE is '${DEVICE}'; cpu or cuda was expected" >&2; exit 1 ;; \
    esac \
    && python3 -m venv --without-pip /opt/whymask \
    && /opt/uv/bin/uv pip install --no-cache --compile-bytecode --python /opt/whymask/bin/python ${torch} \
        --constraint /source/requirements.lock "/source[${EXTRAS}]"

FROM ${BASE}
ARG DEVICE=cpu
# torch.compile, which long runs on a GPU use, needs a compiler.
# hadolint ignore=DL3008
RUN if [ "${DEVICE}" = cuda ]; then \
        apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*; \
    fi
COPY --from=build /opt/whymask /opt/whymask
# Whoever runs it (--user) may write the home folder, where decoded images and downloaded weights are kept, and /runs.
RUN useradd --uid 1000 --home-dir /cache --create-home whymask && mkdir /runs && chmod 1777 /cache /runs
ENV PATH=/opt/whymask/bin:${PATH} HOME=/cache USER=whymask
USER 1000
WORKDIR /runs
ENTRYPOINT ["whymask"]
CMD ["--help"]
