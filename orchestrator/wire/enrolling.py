"""What a party asks for to get a certificate, and what it is answered: JSON over TLS, or in files that people carry.

Each message has one definition: `read` raises IdentityError for what it does not admit, `written` is the object that is sent.
"""

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from orchestrator.errors import IdentityError


class NodeRequest(NamedTuple):
    """Redeems an invitation."""

    name: str
    secret: str
    """Of the token; good once."""
    request: str
    """PEM of a certificate request."""

    @classmethod
    def read(cls, held: Any) -> "NodeRequest":
        found = cls(*_texts(held, cls._fields, f"a request has the fields {', '.join(cls._fields)}"))
        if not all(text.isascii() for text in found) or not (found.name + found.secret).isprintable():
            raise IdentityError("name, secret and request of a node are plain ASCII")
        return found

    def written(self) -> Dict[str, Any]:
        return self._asdict()


class NodeAnswer(NamedTuple):
    """What makes an identity of a node's key."""

    certificate: str
    """PEM, the node's."""
    ca: str
    """PEM, the authority's."""
    signing: str
    """The public key whose messages the node believes."""
    federation: str
    name: str
    broker: Optional[str] = None
    """Where nodes meet the gateway, where that is known."""

    @classmethod
    def read(cls, held: Any) -> "NodeAnswer":
        wanted = cls._fields[:-1]
        found = cls(*_texts(held, wanted, f"the gateway's answer lacks one of {', '.join(wanted)}"))
        broker = held.get("broker")
        if broker is not None and not isinstance(broker, str):
            raise IdentityError("the gateway's answer names a broker that is not a text")
        return found._replace(broker=broker)

    def written(self) -> Dict[str, Any]:
        return {key: value for key, value in self._asdict().items() if value is not None}


class GatewayRequest(NamedTuple):
    """To an authority on another machine."""

    federation: str
    hosts: List[str]
    """Addresses the gateway's certificate is for."""
    request: str
    """PEM of a certificate request."""
    signing: str
    """Public key of what the gateway signs its messages with."""

    @classmethod
    def read(cls, held: Any) -> "GatewayRequest":
        complaint = "not what `edgeward gateway init --request` writes"
        federation, request, signing = _texts(held, ("federation", "request", "signing"), complaint)
        return cls(federation, _hosts(held, complaint), request, signing)

    def written(self) -> Dict[str, Any]:
        return self._asdict()


class GatewayAnswer(NamedTuple):
    """What makes a gateway's identity of the keys in its folder."""

    certificate: str
    """PEM, the gateway's."""
    ca: str
    """PEM, the authority's."""
    hosts: List[str]
    federation: str
    certificates: Mapping[str, Any]
    """With federation, log and crl, checked where they are installed (gateway/certificate_log.py)."""

    @classmethod
    def read(cls, held: Any) -> "GatewayAnswer":
        wanted = ("certificate", "ca", "federation", "crl")
        complaint = f"the authority's answer lacks one of {', '.join(wanted)}, hosts"
        certificate, ca, federation, _ = _texts(held, wanted, complaint)
        return cls(certificate, ca, _hosts(held, complaint), federation, held)

    def written(self) -> Dict[str, Any]:
        return {"certificate": self.certificate, "ca": self.ca, "hosts": self.hosts, **self.certificates}


def _texts(held: Any, names: Tuple[str, ...], complaint: str) -> Tuple[str, ...]:
    if not isinstance(held, Mapping) or not all(isinstance(held.get(name), str) for name in names):
        raise IdentityError(complaint)
    return tuple(held[name] for name in names)


def _hosts(held: Mapping[str, Any], complaint: str) -> List[str]:
    if not isinstance(held.get("hosts"), list):
        raise IdentityError(complaint)
    return [str(host) for host in held["hosts"]]
