"""Is there a broker, and if not, at which step does it fail: name, port, TLS, or the broker's own refusal."""

import socket
import ssl
import time
from typing import List, Optional

from orchestrator.doctor.finding import NOT_CHECKED, OK, PROBLEM, WARNING, Finding
from orchestrator.errors import BrokerError
from orchestrator.wire.address import client_id
from orchestrator.wire.link import BrokerAddress, check_reachable
from orchestrator.wire.lookout import Lookout
from orchestrator.wire.loopback import is_loopback
from orchestrator.wire.topics import ANY_GATEWAY, PROTOCOL

_CHECK = "broker"
LISTEN_S = 1.0
"""For gateways at the broker: what they said is retained there, so it comes at once."""

MOST_NAMED = 10


def check_broker(address: BrokerAddress, timeout_s: float) -> List[Finding]:
    """Connects over MQTT as `address` says, certificate included, and leaves."""
    host, port = address.host, address.port
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return [_problem(f"{host}: the name is not known: {error}", f"getent hosts {host}; fix DNS or /etc/hosts")]
    try:
        connection = socket.create_connection((host, port), timeout_s)
    except OSError as error:
        fix = f"start the broker, or open the way: nc -vz {host} {port}"
        return [_problem(f"{host}:{port}: no connection: {error}", fix)]
    with connection:
        if address.tls:
            failed = _tls(connection, address)
            if failed is not None:
                return [failed]
    try:
        check_reachable(address, timeout_s)
    except BrokerError as error:
        fix = "check user and password in mqtt://USER:PASSWORD@HOST, and the broker's ACL"
        return [_problem(str(error), fix)]
    found = [Finding(OK, _CHECK, f"{address}: connected over MQTT")]
    if not address.tls and not is_loopback(host):
        fix = "use mqtts:// with certificates"
        found.append(
            Finding(WARNING, _CHECK, f"{address}: not encrypted; anyone on the way can read and change it", fix)
        )
    return found


def check_gateways(address: BrokerAddress) -> Finding:
    """Which federations have a gateway at the broker now: a node belongs to the one its --federation names."""
    lookout = Lookout(address, client_id("doctor"), [ANY_GATEWAY])
    lookout.connect()
    time.sleep(LISTEN_S)
    seen, looked = [presence.who for presence in lookout.look()], lookout.open
    lookout.close()
    if not looked:
        return Finding(NOT_CHECKED, "gateway", f"{address}: the broker lets nobody look round under this identity")
    if not seen:
        return Finding(NOT_CHECKED, "gateway", f"{address}: no gateway announces itself there at the moment")
    other = [who for who in seen if who.protocol != PROTOCOL]
    if other:
        message = (
            f"{address}: the gateway of {other[0].federation} speaks protocol {other[0].protocol}, this node {PROTOCOL}"
        )
        return Finding(WARNING, "gateway", message, "update the older side")
    names = ", ".join(who.federation for who in seen[:MOST_NAMED])
    return Finding(
        OK,
        "gateway",
        f"{address}: gateways of these federations are there: {names}; a node names its own by --federation",
    )


def _tls(connection: socket.socket, address: BrokerAddress) -> Optional[Finding]:
    try:
        context = ssl.create_default_context(cafile=address.ca_file)
        if address.cert_file is not None:
            context.load_cert_chain(address.cert_file, address.key_file)
        with context.wrap_socket(connection, server_hostname=address.host) as secured:
            # With TLS 1.3 a refused certificate shows only when the broker's alert is read.
            secured.settimeout(1.0)
            try:
                closed = secured.recv(1) == b""
            except socket.timeout:
                return None  # it waits for our CONNECT, as it should
            if closed:
                fix = "it may ask for a certificate: --identity DIR; see its log"
                return _problem(f"{address}: the broker closed the connection after TLS", fix)
    except ssl.SSLCertVerificationError as error:
        hint = {
            10: "renew the broker's certificate, or set this machine's clock",
            62: "use the name in its certificate",
        }
        fix = hint.get(
            error.verify_code, f"give its CA: --ca-file; openssl s_client -connect {address.host}:{address.port}"
        )
        return _problem(f"{address}: its certificate is not accepted: {error.verify_message}", fix)
    except (ssl.SSLError, OSError) as error:
        fix = f"is it a TLS port? openssl s_client -connect {address.host}:{address.port}"
        return _problem(f"{address}: TLS failed: {error}", fix)
    return None


def check_own_port(host: str, port: int, running: bool) -> Finding:
    """The port an own broker will listen on; `running`: whether a gateway of ours works already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if running:
                return Finding(NOT_CHECKED, _CHECK, f"{host}:{port}: in use, by the running gateway as it seems")
            fix = f"ss -ltnp 'sport = :{port}' shows by whom; or set another port"
            return _problem(f"{host}:{port}: the gateway's own broker cannot listen there: {error.strerror}", fix)
    return Finding(OK, _CHECK, f"{host}:{port}: free for the gateway's own broker")


def _problem(message: str, fix: str) -> Finding:
    return Finding(PROBLEM, _CHECK, message, fix)
