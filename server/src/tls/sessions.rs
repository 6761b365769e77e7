//! Sessions that a client can go on with in another connection to the same name.

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Servers whose sessions are kept.
const SERVERS_MAX: usize = 1024;
/// Tickets of a session that are kept.
const TICKETS_MAX: usize = 4;

/// What a server has given to go on with. It fills while the connection is in use: TLS 1.3 sends tickets behind the handshake.
#[derive(Debug, Default)]
pub struct Session(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// The name that it is for.
    name: Option<ServerName<'static>>,
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tls13: VecDeque<Tls13ClientSessionValue>,
}

impl Session {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept for `name`; what another name has left is dropped.
    fn of(&self, name: ServerName<'static>) -> MutexGuard<'_, Kept> {
        let mut k = self.kept();
        if k.name.as_ref() != Some(&name) {
            *k = Kept { name: Some(name), ..Kept::default() };
        }
        k
    }

    fn known(&self, name: &ServerName<'_>) -> Option<MutexGuard<'_, Kept>> {
        let k = self.kept();
        (k.name.as_ref() == Some(name)).then_some(k)
    }
}

impl ClientSessionStore for Session {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.of(name).group = Some(group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.known(name)?.group
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.of(name).tls12 = Some(value);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.known(name)?.tls12.clone()
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        if let Some(mut k) = self.known(name) {
            k.tls12 = None;
        }
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut k = self.of(name);
        if k.tls13.len() >= TICKETS_MAX {
            k.tls13.pop_front();
        }
        k.tls13.push_back(value);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.known(name)?.tls13.pop_back()
    }
}

/// Sessions of many servers, by what tells them apart. When there are too many all are forgotten.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<String, Arc<Session>>>);

impl Sessions {
    /// The session of a server, to go on with and to be filled.
    pub fn of(&self, server: &str) -> Arc<Session> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(server) {
            return known.clone();
        }
        if all.len() >= SERVERS_MAX {
            all.clear();
        }
        all.entry(server.to_owned()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_told_apart_and_bounded() {
        let s = Sessions::default();
        let first = s.of("a");
        assert!(Arc::ptr_eq(&first, &s.of("a")) && !Arc::ptr_eq(&first, &s.of("b")));
        for n in 0..SERVERS_MAX {
            s.of(&n.to_string());
        }
        assert!(s.0.lock().unwrap().len() <= SERVERS_MAX);
    }
}
