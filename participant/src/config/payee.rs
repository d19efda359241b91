//! `[wallet]`: where the pool pays to.

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Network};
use tutti_daemon::config::{ConfigError, ConfigFile};
use tutti_proto::script::PayoutScript;

use super::file::WalletSection;
use crate::wallet::{AccountXpub, PayTo, XpubError};

pub(super) fn pay_to(
    place: ConfigFile<'_>,
    network: Network,
    section: WalletSection,
) -> Result<PayTo, ConfigError> {
    match (section.xpub, section.address) {
        (None, None) => Ok(PayTo::OwnKeys),
        (Some(_), Some(_)) => {
            let problem = "has xpub and address; give one of them or neither, not both";
            Err(place.wrong("wallet", problem))
        }
        (Some(text), None) => {
            let parsed: Result<AccountXpub, XpubError> = text.parse();
            let xpub = parsed
                .map_err(|error| place.wrong("wallet.xpub", format!("cannot be used: {error}")))?;
            if xpub.is_for(network) {
                return Ok(PayTo::Xpub(xpub));
            }
            let problem =
                format!("is {xpub}; {network} is set: xpub is for bitcoin, tpub for the others");
            Err(place.wrong("wallet.xpub", problem))
        }
        (None, Some(text)) => {
            let wrong =
                |allowed: String| place.wrong("wallet.address", format!("is {text:?}; {allowed}"));
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
