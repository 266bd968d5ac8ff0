# The programs and the lab, and Flink with its connectors; docker-compose.yml says which of them a container runs.
ARG PYTHON_RELEASE=3.13
FROM python:${PYTHON_RELEASE}-slim AS lab

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

# The connectors come as the servers of the embedded stack do: by the lock, with their checksums.
FROM lab AS connectors
RUN python -c 'from kafkalab.embedded import artifacts; artifacts.fetch(sets={"flink-connectors"})'

FROM flink:2.2.1-java21 AS flink
COPY --from=connectors --chown=flink:flink /home/learner/.cache/kafkalab/jars/*.jar /opt/flink/lib/
USER flink
RUN mkdir /opt/flink/state
