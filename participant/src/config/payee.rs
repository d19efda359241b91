//! `[wallet]`: where the pool pays to.

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Network};
use tutti_proto::script::PayoutScript;

use super::ConfigError;
use super::error::Place;
use super::file::WalletSection;
use crate::wallet::{AccountXpub, PayTo};

pub(super) fn pay_to(
    place: Place<'_>,
    network: Network,
    section: WalletSection,
) -> Result<PayTo, ConfigError> {
    match (section.xpub, section.address) {
        (None, None) => Ok(PayTo::OwnKeys),
        (Some(_), Some(_)) => Err(place.paid_twice()),
        (Some(text), None) => {
            let xpub: AccountXpub = text.parse().map_err(|reason| place.xpub(reason))?;
            if xpub.is_for(network) {
                return Ok(PayTo::Xpub(xpub));
            }
            let allowed = format!("{network} is set: xpub is for bitcoin, tpub for the others");
            Err(place.value("wallet.xpub", xpub, allowed))
        }
        (None, Some(text)) => {
            let wrong =
                |allowed: String| place.value("wallet.address", format!("{text:?}"), allowed);
            let parsed: Result<Address<NetworkUnchecked>, _> = text.trim().parse();
            let parsed = parsed.map_err(|error| wrong(format!("it is no address ({error})")))?;
            let address = parsed.require_network(network);
            let address =
                address.map_err(|_| wrong(format!("an address of {network} is allowed")))?;
            PayoutScript::parse(address.script_pubkey())
                .map_err(|error| wrong(error.to_string()))?;
            Ok(PayTo::Address(address))
        }
    }
}
