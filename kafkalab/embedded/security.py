"""What secures a stack: an authority made on the spot, users and what they may do, and the files for clients."""

import json
import secrets
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from kafkalab.embedded import HOST
from kafkalab.embedded.files import write_private, write_properties
from kafkalab.errors import LabError

BROKER = "broker"  # who the brokers are to each other
ADMIN = "admin"  # who makes users and gives permissions, a super user
LEARNER = "learner"  # whose permissions the lessons need
_ITERATIONS = 4096  # of SCRAM's hash, the least that brokers take (RFC 7677)
_SECONDS = 30
_LEARNER_MAY = {
    ResourceType.TOPIC: ("*", [AclOperation.ALL]),
    ResourceType.GROUP: ("*", [AclOperation.ALL]),
    ResourceType.TRANSACTIONAL_ID: ("*", [AclOperation.ALL]),
    ResourceType.BROKER: (
        "kafka-cluster",
        [AclOperation.CREATE, AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS, AclOperation.IDEMPOTENT_WRITE],
    ),
}


class Security:
    """The files of a secured stack, which only its owner can read.

    Attributes:
        authority: The certificate that clients trust.
        identity: The servers' key and certificate, one after the other, as Kafka's PEM key store wants them (KIP-651).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.authority, self.identity = folder / "authority.pem", folder / "server.pem"
        self._kept = folder / "passwords.json"

    def make(self) -> None:
        """Make certificates and passwords, unless they are there."""
        if not self._kept.exists():  # it comes last, so with it there are all
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_certificates()
            passwords = {user: secrets.token_urlsafe(24) for user in (BROKER, ADMIN, LEARNER)}
            write_private(self._kept, json.dumps(passwords))

    @property
    def _passwords(self) -> dict[str, str]:
        try:
            passwords: dict[str, str] = json.loads(self._kept.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise LabError(
                f"{self._kept} cannot be read ({type(error).__name__}), and only who started the stack may: take its "
                "account, or forget the stack with `kafkalab down --wipe`"
            ) from None
        return passwords

    def client(self, bootstrap_servers: str, user: str = LEARNER) -> dict[str, str]:
        """Return what a client of a user takes, in librdkafka's names."""
        return {
            "bootstrap.servers": bootstrap_servers,
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": self.authority.as_posix(),
            "sasl.mechanism": "PLAIN" if user == BROKER else "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": self._passwords[user],
        }

    def registry_client(self) -> dict[str, str]:
        """Return what `SchemaRegistryClient` takes beside the address."""
        return {
            "basic.auth.user.info": f"{LEARNER}:{self._passwords[LEARNER]}",
            "ssl.ca.location": self.authority.as_posix(),
        }

    def broker(self) -> dict[str, object]:
        """Return the broker configuration (Kafka 3.9 documentation, "Security")."""
        plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule"
        own = f'username="{BROKER}" password="{self._passwords[BROKER]}" user_{BROKER}="{self._passwords[BROKER]}"'
        return {
            "security.inter.broker.protocol": "SASL_SSL",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",  # SCRAM users live in the cluster that is yet to start
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": f"{plain} required {own};",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f"{scram} required;",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self.identity,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.authority,
            "authorizer.class.name": "kafka.security.authorizer.AclAuthorizer",
            "super.users": f"User:{BROKER};User:{ADMIN}",
        }

    @property
    def registry(self) -> Path:
        """The registry's configuration, which holds a password."""
        return self._folder / "registry.server.properties"

    def write_registry(self, port: int) -> None:
        """Write the registry's configuration (Quarkus documentation, "HTTP reference")."""
        write_properties(self.registry, {
            "quarkus.http.insecure-requests": "disabled",
            "quarkus.http.ssl-port": port,
            "quarkus.http.ssl.certificate.files": self.identity,
            "quarkus.http.ssl.certificate.key-files": self.identity,
            "quarkus.http.auth.basic": "true",
            "quarkus.http.auth.permission.all.paths": "/*",
            "quarkus.http.auth.permission.all.policy": "authenticated",
            "quarkus.security.users.embedded.plain-text": "true",
            f"quarkus.security.users.embedded.users.{LEARNER}": self._passwords[LEARNER],
            f"quarkus.security.users.embedded.roles.{LEARNER}": "user",
        })  # fmt: skip

    def grant(self, bootstrap_servers: str) -> None:
        """Make the users and give the learner what the lessons need; once more changes nothing.

        Raises:
            LabError: The brokers refuse it, or do not answer in time.
        """
        admin = AdminClient({**self.client(bootstrap_servers, BROKER), "log_level": 0})
        scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, _ITERATIONS)
        users: list[UserScramCredentialAlteration] = [
            UserScramCredentialUpsertion(user, scram, self._passwords[user].encode()) for user in (ADMIN, LEARNER)
        ]
        acls = [
            AclBinding(
                kind, name, ResourcePatternType.LITERAL, f"User:{LEARNER}", "*", operation, AclPermissionType.ALLOW
            )
            for kind, (name, operations) in _LEARNER_MAY.items()
            for operation in operations
        ]
        made = admin.alter_user_scram_credentials(users).values(), admin.create_acls(acls).values()
        try:
            for answer in chain(*made):
                answer.result(_SECONDS)
        except (KafkaException, TimeoutError) as error:
            raise LabError(
                f"users and permissions of the stack were not made ({error!r}): run the same command again, and see "
                "`kafkalab logs broker-0`"
            ) from None

    def write_clients(self, bootstrap_servers: str) -> None:
        """Write the files for clients: librdkafka's names, the registry client's, and Java's."""
        for name, user in (("client", LEARNER), ("admin", ADMIN)):
            _write_clients_file(self._folder / f"{name}.properties", self.client(bootstrap_servers, user))
        _write_clients_file(self._folder / "schema-registry.properties", self.registry_client())
        login = f'username="{LEARNER}" password="{self._passwords[LEARNER]}"'
        write_properties(self._folder / "java.properties", {
            "bootstrap.servers": bootstrap_servers,
            "security.protocol": "SASL_SSL",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.authority,
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.jaas.config": f"org.apache.kafka.common.security.scram.ScramLoginModule required {login};",
        })  # fmt: skip

    def _make_certificates(self) -> None:
        import trustme  # noqa: PLC0415 - needed once in the life of a secured stack
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

        authority = trustme.CA(organization_name="kafkalab", organization_unit_name="for this stack only")
        server = authority.issue_cert(HOST, "localhost", common_name="kafkalab")
        key = serialization.load_pem_private_key(server.private_key_pem.bytes(), None)
        pkcs8 = key.private_bytes(  # the one form of a key that Kafka reads
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chain = b"".join(part.bytes() for part in server.cert_chain_pems)
        write_private(self.identity, (pkcs8 + chain).decode())
        write_private(self.authority, authority.cert_pem.bytes().decode())


def _write_clients_file(path: Path, properties: Mapping[str, str]) -> None:
    """Write lines key=value as they are: librdkafka's tools know no escapes."""
    write_private(path, "".join(f"{key}={value}\n" for key, value in properties.items()))
