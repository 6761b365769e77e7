//! Scalar settings of the modules that make, filter and guard responses: one row per directive.

use super::directive::{Arity, Cx, Row};
use super::directives::set_misc::BASE32;
use super::error::Fail;
use super::settings::settings;
use super::tree::Node;
use super::value::{flag_arg, number_arg};
use crate::phase::Contexts;

const LOCATIONS: Contexts = Contexts::LOCATION.or(Contexts::LOCATION_IF);
const LEVELS: Contexts = Contexts::HTTP.or(Contexts::SERVER).or(Contexts::LOCATION);
const LEVELS_IFS: Contexts = LEVELS.or(Contexts::SERVER_IF).or(Contexts::LOCATION_IF);

/// A status, or another number that fits 16 bits.
fn status_arg(cx: &mut Cx<'_>, node: &Node) -> Result<u16, Fail> {
    let number = number_arg(cx, node)?;
    u16::try_from(number).map_err(|_| Fail::invalid_value())
}

fn alphabet(_: &mut Cx<'_>, node: &Node) -> Result<Box<[u8]>, Fail> {
    let alphabet = node.arg(0);
    if alphabet.len() != 32 {
        return Err(Fail::Message(format!(
            "\"set_base32_alphabet\" directive takes an alphabet of {} bytes but 32 expected",
            alphabet.len()
        )));
    }
    Ok(alphabet.into())
}

settings! {
    /// Settings of response modules in force in a location.
    FilterSettings, FilterDraft in scope.filters; FILTER_ROWS {
        /// The status that `echo` commands answer with.
        echo_status: u16 = 200, status_arg, LOCATIONS, Arity::Exactly(1);
        /// Whether base 32 is padded with `=`.
        set_base32_padding: bool = true, flag_arg, LEVELS_IFS, Arity::Exactly(1);
        /// The 32 letters of base 32.
        set_base32_alphabet: Box<[u8]> = (*BASE32).into(), alphabet, LEVELS_IFS, Arity::Exactly(1);
    }
}
