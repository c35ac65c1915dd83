//! The choice of experts for one token: the routers of the mixtures.

use super::{BenchCase, experts::MIXTURES, router};

pub(super) fn cases() -> Vec<BenchCase> {
    MIXTURES.map(|mixture| router::case("router_decode", mixture, 1)).into()
}
