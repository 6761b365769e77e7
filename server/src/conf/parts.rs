//! What a level has beyond scalars and beyond the core: lists of the header, echo and access modules.
//!
//! One struct that a level fills while it is read and that takes from the level around it what its
//! modules inherit; each field says how.

use std::sync::Arc;

use super::directives::access::{AccessRule, AuthSet};
use super::directives::echo::EchoCommand;
use super::directives::filters::{Expires, Proxied, SubFilter, TypeSet};
use super::directives::limits::{LimitConn, LimitReq};
use super::directives::more_headers::HeaderCommand;
use super::directives::referers::Referers;
use super::model::AddHeader;
use super::net::Net;
use crate::regex::Regex;

/// The parts of one level.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// `echo_before_body` lines; replaced by an inner level that has any.
    pub echo_before: Vec<EchoCommand>,
    /// `echo_after_body` lines; replaced likewise.
    pub echo_after: Vec<EchoCommand>,
    /// `more_*_headers` and `more_*_input_headers` lines; those of outer levels come first.
    pub more_headers: Vec<HeaderCommand>,
    /// `expires`.
    pub expires: Option<Expires>,
    /// `gzip_types`.
    pub gzip_types: Option<TypeSet>,
    /// `gzip_disable`.
    pub gzip_disable: Option<Vec<Arc<Regex>>>,
    /// `gzip_proxied`.
    pub gzip_proxied: Option<Proxied>,
    /// `sub_filter_types`.
    pub sub_types: Option<TypeSet>,
    /// `charset_types`.
    pub charset_types: Option<TypeSet>,
    /// `valid_referers`.
    pub referers: Option<Arc<Referers>>,
    /// `sub_filter` lines.
    pub sub_filters: Vec<SubFilter>,
    /// `add_trailer` lines.
    pub add_trailers: Vec<AddHeader>,
    /// `mirror` lines; a single `None` is `off`. Replaced, too.
    pub mirrors: Vec<Option<Box<[u8]>>>,
    /// `allow` and `deny` lines; replaced like all that follow.
    pub access: Vec<AccessRule>,
    /// `auth_request_set` lines.
    pub auth_sets: Vec<AuthSet>,
    /// `set_real_ip_from` lines.
    pub real_ip_from: Vec<Net>,
    /// `limit_req` lines.
    pub limit_reqs: Vec<LimitReq>,
    /// `limit_conn` lines.
    pub limit_conns: Vec<LimitConn>,
}

/// Takes the outer list when there is none of its own.
fn replace<T: Clone>(own: &mut Vec<T>, outer: &[T]) {
    if own.is_empty() {
        own.extend_from_slice(outer);
    }
}

/// Takes the outer value when there is none of its own.
fn inherit<T: Clone>(own: &mut Option<T>, outer: &Option<T>) {
    if own.is_none() {
        own.clone_from(outer);
    }
}

impl Parts {
    /// Takes from the level around what this one inherits.
    pub fn inherit(&mut self, outer: &Parts) {
        replace(&mut self.echo_before, &outer.echo_before);
        replace(&mut self.echo_after, &outer.echo_after);
        inherit(&mut self.expires, &outer.expires);
        inherit(&mut self.gzip_types, &outer.gzip_types);
        inherit(&mut self.gzip_disable, &outer.gzip_disable);
        inherit(&mut self.gzip_proxied, &outer.gzip_proxied);
        inherit(&mut self.sub_types, &outer.sub_types);
        inherit(&mut self.charset_types, &outer.charset_types);
        inherit(&mut self.referers, &outer.referers);
        replace(&mut self.sub_filters, &outer.sub_filters);
        replace(&mut self.add_trailers, &outer.add_trailers);
        replace(&mut self.mirrors, &outer.mirrors);
        replace(&mut self.access, &outer.access);
        replace(&mut self.auth_sets, &outer.auth_sets);
        replace(&mut self.real_ip_from, &outer.real_ip_from);
        replace(&mut self.limit_reqs, &outer.limit_reqs);
        replace(&mut self.limit_conns, &outer.limit_conns);
        self.more_headers.splice(0..0, outer.more_headers.iter().cloned());
    }
}
