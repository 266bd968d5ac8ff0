-- Lesson 07 on a stream engine: see scaling.md. A blank line stands between two statements.

SET 'execution.checkpointing.interval' = '5 s';

-- on many machines, a place that all of them reach
SET 'execution.checkpointing.dir' = 'file:///checkpoints';

-- what the tables below have in common
CREATE TABLE kafka WITH (
  'connector' = 'kafka',
  'properties.bootstrap.servers' = 'localhost:9092',
  'properties.isolation.level' = 'read_committed',
  'properties.transaction.timeout.ms' = '900000');

CREATE TABLE counts (`count` INT NOT NULL) WITH (
  'topic' = 'count', 'scan.startup.mode' = 'earliest-offset',
  'format' = 'avro-confluent', 'avro-confluent.url' = 'http://localhost:8081') LIKE kafka;

CREATE TABLE legacy (
  `value` BYTES, topic STRING METADATA VIRTUAL, `partition` INT METADATA VIRTUAL, `offset` BIGINT METADATA VIRTUAL
) WITH ('topic' = 'multiples', 'scan.startup.mode' = 'earliest-offset', 'format' = 'raw') LIKE kafka;

CREATE TABLE rejected (`value` BYTES, headers MAP<STRING, BYTES> METADATA) WITH (
  'topic' = 'multiples.rejected', 'format' = 'raw',
  'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = 'rejected') LIKE kafka;

CREATE TABLE checked (multiple INT NOT NULL) WITH (
  'topic' = 'multiples.checked', 'scan.startup.mode' = 'earliest-offset',
  'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = 'checked',
  'format' = 'avro-confluent', 'avro-confluent.url' = 'http://localhost:8081',
  'avro-confluent.schema' = '{"namespace": "caai.example.kafka", "type": "record", "name": "Multiples",
    "doc": "One value of the legacy source, after it was checked.",
    "fields": [{"name": "multiple", "type": "int", "doc": "A number times itself."}]}') LIKE kafka;

CREATE TABLE statistic (
  source STRING NOT NULL, messages BIGINT NOT NULL, mean DOUBLE NOT NULL, minimum INT NOT NULL, maximum INT NOT NULL,
  PRIMARY KEY (source) NOT ENFORCED
) WITH (
  'connector' = 'upsert-kafka', 'topic' = 'statistic', 'key.format' = 'raw',
  'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = 'statistic',
  'value.format' = 'avro-confluent', 'value.avro-confluent.url' = 'http://localhost:8081',
  'value.avro-confluent.schema' = '{"namespace": "caai.example.kafka", "type": "record", "name": "Statistic",
    "doc": "What is known of a source after a number of its messages.",
    "fields": [{"name": "source", "type": "string", "doc": "The topic that was read."},
      {"name": "messages", "type": "long", "doc": "How many of its messages were counted."},
      {"name": "mean", "type": "double", "doc": "The mean of their values."},
      {"name": "minimum", "type": "int", "doc": "The smallest value."},
      {"name": "maximum", "type": "int", "doc": "The largest value."}]}') LIKE kafka (OVERWRITING OPTIONS);

CREATE VIEW parsed AS
SELECT *, DECODE(`value`, 'UTF-8') AS text, TRY_CAST(DECODE(`value`, 'UTF-8') AS BIGINT) AS number FROM legacy;

CREATE VIEW judged AS
SELECT *, CASE
  WHEN `value` IS NULL OR NOT REGEXP(text, '^-?[0-9]+\z') THEN COALESCE(text, 'nothing') || ' is not a whole number'
  WHEN number IS NULL THEN text || ' is too large for an Avro int'
  WHEN number < 0 OR POWER(ROUND(SQRT(ABS(number)), 0), 2) <> number THEN text || ' is not a number times itself'
  WHEN number > 2147483647 THEN text || ' is too large for an Avro int'
END AS reason FROM parsed;

EXECUTE STATEMENT SET BEGIN
INSERT INTO checked SELECT CAST(number AS INT) FROM judged WHERE reason IS NULL;
INSERT INTO rejected SELECT `value`, MAP['reason', ENCODE(reason, 'UTF-8'), 'topic', ENCODE(topic, 'UTF-8'),
    'partition', ENCODE(CAST(`partition` AS STRING), 'UTF-8'), 'offset', ENCODE(CAST(`offset` AS STRING), 'UTF-8')]
  FROM judged WHERE reason IS NOT NULL;
INSERT INTO statistic SELECT source, COUNT(*), AVG(CAST(number AS DOUBLE)), MIN(number), MAX(number)
  FROM (SELECT 'count' AS source, `count` AS number FROM counts
        UNION ALL SELECT 'multiples.checked', multiple FROM checked) GROUP BY source;
END;
