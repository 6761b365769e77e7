//! The directive table: one file per group, one row per directive.

pub mod access;
pub mod core;
pub mod echo;
pub mod filters;
pub mod geo;
pub mod http;
pub mod limits;
pub mod location;
pub mod log;
pub mod lua_code;
pub mod more_headers;
pub mod proxy;
pub mod referers;
pub mod rewrite;
pub mod set_misc;
mod unsupported;
pub mod upstream;

use super::directive::{Arity, Row, simple};
use super::error::Fail;
use super::filter_settings;
use super::settings;
use super::value;

/// Every row of every group.
pub fn rows() -> impl Iterator<Item = Row> {
    let groups: [&'static [Row]; 27] = [
        settings::MAIN_ROWS,
        settings::LUA_ROWS,
        settings::SERVER_ROWS,
        settings::LOCATION_ROWS,
        core::ROWS,
        http::ROWS,
        location::ROWS,
        log::ROWS,
        rewrite::ROWS,
        lua_code::ROWS,
        filter_settings::FILTER_ROWS,
        echo::ROWS,
        filters::ROWS,
        geo::ROWS,
        referers::ROWS,
        access::ROWS,
        limits::ROWS,
        more_headers::ROWS,
        set_misc::ROWS,
        proxy::ROWS,
        super::proxy::PROXY_ROWS,
        super::tls::LUA_TLS_ROWS,
        super::tls::ROWS,
        super::proxy_ssl::PROXY_SSL_ROWS,
        super::ssl::SSL_ROWS,
        super::ssl::ROWS,
        upstream::ROWS,
    ];
    let tuning = settings::TUNING.iter().map(|(name, contexts)| {
        simple(name, *contexts, Arity::Exactly(1), |cx, node| {
            let name = node.name().into_owned();
            if cx.scope.tuned.contains(&name) {
                return Err(Fail::duplicate());
            }
            cx.scope.tuned.push(name);
            value::number(node.arg(0)).map(|_| ()).ok_or_else(|| Fail::Directive("invalid number".to_owned()))
        })
    });
    groups.into_iter().flatten().copied().chain(tuning).chain(lua_code::phase_rows())
}

/// Whether nginx or OpenResty has a directive of this name that this server lacks.
pub fn is_unsupported(name: &str) -> bool {
    unsupported::NAMES.binary_search(&name).is_ok()
}
