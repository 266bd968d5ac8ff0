# The programs and the lab; docker-compose.yml says which of them a container runs.
ARG PYTHON_RELEASE=3.13
FROM python:${PYTHON_RELEASE}-slim

# folders that a volume is laid over keep their owner
RUN useradd --create-home learner \
    && install --directory --owner learner --group learner \
        /home/learner/kafkalab /home/learner/course /home/learner/.cache /home/learner/.cache/kafkalab
WORKDIR /home/learner/kafkalab

COPY requirements.lock .
RUN pip install --no-cache-dir --require-hashes --requirement requirements.lock
COPY --chown=learner:learner . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable .

USER learner
# a container's port is published from all of its addresses
RUN mkdir ~/.jupyter && echo 'c.ServerApp.ip = "0.0.0.0"' > ~/.jupyter/jupyter_server_config.py
CMD ["kafkalab", "--help"]
