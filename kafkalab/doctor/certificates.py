"""A server's certificate, looked at as the client will."""

import ssl
from datetime import UTC, datetime

from cryptography import x509

from kafkalab.doctor.endpoint import Endpoint
from kafkalab.errors import LabError


def examine_certificate(server: Endpoint) -> str:
    """Return what is to say of the certificate that a server shows.

    Raises:
        LabError: The client will not trust it.
    """
    if str(server.properties.get("enable.ssl.certificate.verification", "true")).lower() != "true":
        return "its certificate is not looked at"
    try:
        with server.dial(tls=True) as connection:
            shown = connection.getpeercert(binary_form=True) if isinstance(connection, ssl.SSLSocket) else None
            certificate = x509.load_der_x509_certificate(shown or b"")
        with server.dial(tls=True, verify=True):
            return f"certificate trusted, until {certificate.not_valid_after_utc:%Y-%m-%d}"
    except ssl.SSLCertVerificationError as error:
        reason = _mistrust(server, certificate, error.verify_code)
    except OSError as error:
        raise LabError(f"{server.name} ends the connection while TLS begins ({error}): {server.fix}") from None
    raise LabError(f"the certificate of {server.name} {reason}")


def _mistrust(server: Endpoint, certificate: x509.Certificate, code: int) -> str:
    """Return what is wrong with a certificate; the numbers are OpenSSL's (its manual, "X509_STORE_CTX_get_error")."""
    now, begin, end = datetime.now(UTC), certificate.not_valid_before_utc, certificate.not_valid_after_utc
    renew = f"have it renewed where the server runs, unless this machine's clock is wrong: it says {now:%Y-%m-%d}"
    match code:
        case 10 if end > now:
            return f"has an authority that expired: {renew}"
        case 10:
            return f"expired on {end:%Y-%m-%d}: {renew}"
        case 9:
            return f"is not valid before {begin:%Y-%m-%d}: wait, or set this machine's clock: it says {now:%Y-%m-%d}"
        case 62 | 64:
            return f"is not for {server.host}, but for {_hosts(certificate)}: dial one of its names, {server.fix}"
        case _:
            authority = server.properties.get("ssl.ca.location")
            known = (
                f"ssl.ca.location={authority}" if authority else "what this machine trusts without an ssl.ca.location"
            )
            return (
                f"is by {certificate.issuer.rfc4514_string()}, which is not in {known}: get that authority's "
                f"certificate from who runs the server, and name its file as ssl.ca.location {server.file}"
            )


def _hosts(certificate: x509.Certificate) -> str:
    parts = [part.value for part in certificate.extensions if part.oid == x509.SubjectAlternativeName.oid]
    return ", ".join(str(name.value) for part in parts for name in part) or "no name"
