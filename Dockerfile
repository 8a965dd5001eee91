# docker build -t generatepgt .                      the CPU's
# docker build -t generatepgt-cuda --build-arg BASE=pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime .
# docker run --rm --user "$(id -u):$(id -g)" -v "$PWD/photos:/photos:ro" -v "$PWD/result:/app/result" generatepgt run_sample.py /photos
# docker run --rm -p 127.0.0.1:8000:8000 generatepgt run_serve.py --host 0.0.0.0        CUDA: docker run --gpus all ...
ARG BASE=python:3.12-slim
FROM ${BASE}

WORKDIR /app
# a base that comes with torch keeps it; others get the CPU's, which is a tenth as large
RUN python -c "import torch, torchvision" 2>/dev/null \
    || python -m pip install --no-cache-dir "torch>=2.4.0" "torchvision>=0.19.0" --index-url https://download.pytorch.org/whl/cpu
COPY requirements.txt ./
RUN python -m pip install --no-cache-dir -r requirements.txt
COPY . ./

# anyone may be --user: what is written on the way goes where everybody may write
ENV HOME=/tmp NUMBA_CACHE_DIR=/tmp/numba PYTHONUNBUFFERED=1
RUN mkdir -p result && chmod 1777 result data/sample
USER 1000
ENTRYPOINT ["python"]
CMD ["run_sample.py", "--help"]
