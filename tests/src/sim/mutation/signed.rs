//! Whoever sends a changed message signs it.

use tutti_proto::message::{
    AnnouncedSlot, Challenge, Join, Proposal, SignedHead, Slots, ToCoordinator, ToParticipant,
    TxAbort, TxAborted, TxAddOutput, TxRemoveOutput, TxSignatures,
};

use super::super::world::identity_key;

const AUX: [u8; 32] = [6; 32];

/// Signs what the coordinator signs of a message. Others' signatures stay as they are.
pub fn sign_as_coordinator(message: ToParticipant) -> ToParticipant {
    let key = &identity_key(0);
    match message {
        ToParticipant::Welcome(mut welcome) => {
            welcome.head = SignedHead::sign(key, welcome.head.head, &AUX);
            ToParticipant::Welcome(welcome)
        }
        ToParticipant::WindowClosed(mut closed) => {
            closed.head = SignedHead::sign(key, closed.head.head, &AUX);
            ToParticipant::WindowClosed(closed)
        }
        ToParticipant::Proposal(Proposal { plan, .. }) => {
            ToParticipant::Proposal(Proposal::sign(key, plan, &AUX))
        }
        ToParticipant::TxAborted(aborted) => {
            let TxAborted {
                round,
                reason,
                blamed,
                ..
            } = aborted;
            ToParticipant::TxAborted(TxAborted::sign(key, round, reason, blamed, &AUX))
        }
        other => other,
    }
}

/// Signs a message as the participant whose identity key has this number.
pub fn sign_as_participant(
    number: u16,
    challenge: Option<&Challenge>,
    message: ToCoordinator,
) -> ToCoordinator {
    let (key, coordinator) = (&identity_key(number), &identity_key(0).identity());
    match message {
        ToCoordinator::Join(join) => {
            let Some(challenge) = challenge else {
                return ToCoordinator::Join(join);
            };
            let signed = Join::sign(key, challenge, join.hashrate, &join.user_agent, &AUX);
            ToCoordinator::Join(Join {
                head: join.head,
                ..signed
            })
        }
        ToCoordinator::TxAddOutput(output) => ToCoordinator::TxAddOutput(TxAddOutput::sign(
            key,
            coordinator,
            output.serial_id,
            output.script,
            &AUX,
        )),
        ToCoordinator::TxRemoveOutput(removal) => ToCoordinator::TxRemoveOutput(
            TxRemoveOutput::sign(key, coordinator, removal.serial_id, &AUX),
        ),
        ToCoordinator::Slots(slots) => {
            let sign = |slot: AnnouncedSlot| AnnouncedSlot::sign(key, coordinator, slot.slot, &AUX);
            ToCoordinator::Slots(Slots {
                slots: slots.slots.into_iter().map(sign).collect(),
            })
        }
        ToCoordinator::TxSignatures(signed) => {
            let TxSignatures {
                round,
                proposal,
                partials,
                ..
            } = signed;
            ToCoordinator::TxSignatures(TxSignatures::sign(key, round, proposal, partials, &AUX))
        }
        ToCoordinator::TxAbort(abort) => {
            ToCoordinator::TxAbort(TxAbort::sign(key, abort.round, abort.reason, &AUX))
        }
        other @ (ToCoordinator::TxComplete(_)
        | ToCoordinator::Share(_)
        | ToCoordinator::Holds(_)) => other,
    }
}
