"""The gRPC services of peers and the orderer, as `grpc_server` wants them."""

from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.peer import proposal_pb2

from hlf_devnet.config import Limits
from hlf_devnet.deliver import DeliverService
from hlf_devnet.endorser import EndorserService
from hlf_devnet.gateway import GatewayService
from hlf_devnet.grpc_server import Behavior, Method, Service


def gateway_service(service: GatewayService, limits: Limits) -> Service:
    methods = {
        "Evaluate": Method(gateway_pb2.EvaluateRequest, service.Evaluate),
        "Endorse": Method(gateway_pb2.EndorseRequest, service.Endorse),
        "Submit": Method(gateway_pb2.SubmitRequest, service.Submit),
        "CommitStatus": Method(gateway_pb2.SignedCommitStatusRequest, service.CommitStatus),
        "ChaincodeEvents": Method(
            gateway_pb2.SignedChaincodeEventsRequest, service.ChaincodeEvents, streams_responses=True
        ),
    }
    return Service("gateway.Gateway", methods, limits.gateway_calls)


def deliver_service(service: DeliverService, limits: Limits) -> Service:
    methods = {
        name: Method(common_pb2.Envelope, behavior, streams_requests=True, streams_responses=True)
        for name, behavior in (
            ("Deliver", service.Deliver),
            ("DeliverFiltered", service.DeliverFiltered),
            ("DeliverWithPrivateData", service.DeliverWithPrivateData),
        )
    }
    return Service("protos.Deliver", methods, limits.deliver_streams)


def ordering_service(broadcast: Behavior, deliver: Behavior) -> Service:
    """Without limits: an orderer has none."""
    methods = {
        name: Method(common_pb2.Envelope, behavior, streams_requests=True, streams_responses=True)
        for name, behavior in (("Broadcast", broadcast), ("Deliver", deliver))
    }
    return Service("orderer.AtomicBroadcast", methods, 0)


def endorser_service(service: EndorserService, limits: Limits) -> Service:
    methods = {"ProcessProposal": Method(proposal_pb2.SignedProposal, service.ProcessProposal)}
    return Service("protos.Endorser", methods, limits.endorser_calls)
