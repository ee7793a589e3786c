"""What others do, restated: small functions of what was observed, each with its source."""

from rollouts.looks import Peer
from rollouts.peers import argo, azure, flagger, hawkbit, kayenta, trained

PEERS: tuple[Peer, ...] = (
    hawkbit.PEER,
    azure.PEER,
    kayenta.PEER,
    flagger.PEER,
    argo.PEER,
    trained.PEER,
)
