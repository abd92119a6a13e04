//! From a host name to a connection, for both protocols, and why there is none.

use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::config::{Server, Tls};

/// Connects; else says why not. `patience` is for all of it.
pub(crate) async fn dial(host: &str, port: u16, patience: Duration) -> Result<TcpStream, String> {
    let connecting = async {
        let found = lookup_host((host, port)).await;
        let found = found.map_err(|_| "the host name cannot be found: is it right?".to_owned())?;
        let addresses: Vec<_> = found.collect();
        let stream = TcpStream::connect(addresses.as_slice()).await;
        let stream = stream.map_err(|error| error.kind().to_string())?;
        let set = stream.set_nodelay(true);
        set.map_err(|error| error.kind().to_string())?;
        Ok(stream)
    };
    let silent = |_| {
        "nobody answers there: is the port right, and does a firewall stand between?".to_owned()
    };
    timeout(patience, connecting).await.map_err(silent)?
}

/// What to say of a server that was connected to and did not greet.
pub(crate) fn silent(server: &Server) -> String {
    let key = server.key;
    match server.tls {
        Tls::Implicit => "no greeting in time".to_owned(),
        // It waits for the first byte of TLS, as we for its greeting.
        _ => format!(
            "no greeting in time; if it speaks TLS from the first byte, as servers do on port {}, \
             write {key}.tls = \"implicit\"",
            if key == "imap" { 993 } else { 465 }
        ),
    }
}
