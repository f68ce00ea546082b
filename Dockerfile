# rtok on NVIDIA GPUs. Build: docker build -t rtok .
# Run, with data and results of the host:
#   docker run --gpus all --ipc host -v /data:/data:ro -v "$PWD":/work rtok train --config train.yaml
# `--ipc host`: the processes that decode images share memory.
FROM python:3.12-slim

# What opencv, which mmsegmentation imports, needs of the system.
RUN apt-get update && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/*

WORKDIR /rtok
COPY pyproject.toml constraints.txt README.md LICENSE labels.txt ./
COPY configs configs
COPY rtok rtok
# PyPI's torch has CUDA inside: the image needs no more of NVIDIA than the host's driver.
RUN pip install --no-cache-dir --constraint constraints.txt ".[convert,demo,heic,seg,tracking]"

RUN useradd --create-home rtok
USER rtok
WORKDIR /work
ENTRYPOINT ["rtok"]
CMD ["doctor"]
