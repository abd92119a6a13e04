//! Fetches addresses that strangers give. A request may only reach the public internet: what a name
//! resolves to is checked, and exactly what was checked is connected to, at every redirect anew. So
//! a name that resolves to something else a moment later gains nothing.

use std::error::Error as StdError;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header;

use super::CONNECT_TIMEOUT;

/// For all of a fetch, redirects included.
const FETCH_MAX: Duration = Duration::from_secs(60);
/// For all of a post.
const POST_MAX: Duration = Duration::from_secs(15);
const REDIRECTS_MAX: usize = 5;
/// Longest content type that is kept, in bytes.
const CONTENT_TYPE_BYTES_MAX: usize = 200;

/// Fetches for one channel, whose `attachment_hosts` may have private addresses.
pub struct Egress {
    client: reqwest::Client,
    allowed: Allowed,
}

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub bytes: Bytes,
    /// As the server called it.
    pub content_type: Option<String>,
}

/// Why nothing was fetched; the words are shown to agents and name no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchError {
    /// It would be the same every time.
    Refused(String),
    /// Perhaps later.
    Unavailable(String),
}

/// Hosts that are named in the configuration.
#[derive(Debug, Clone, Default)]
struct Allowed(Arc<[String]>);

impl Allowed {
    fn names(&self, host: &str) -> bool {
        self.0
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(host))
    }
}

impl Egress {
    pub fn new(attachment_hosts: &[String]) -> Result<Self, reqwest::Error> {
        let allowed = Allowed(attachment_hosts.into());
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            // A proxy would connect to what it resolves itself.
            .no_proxy()
            .dns_resolver(Arc::new(allowed.clone()))
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("switchboard/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, allowed })
    }

    /// Fetches a file of at most `bytes_max`.
    pub async fn fetch(&self, url: &str, bytes_max: u64) -> Result<File, FetchError> {
        match tokio::time::timeout(FETCH_MAX, self.follow(url, bytes_max)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(FetchError::Unavailable(format!(
                "it did not arrive within {} s",
                FETCH_MAX.as_secs()
            ))),
        }
    }

    /// Posts to an address that an operator gave; gives the status. Redirects are not followed.
    pub async fn post(
        &self,
        url: &str,
        headers: &[(&'static str, String)],
        body: Bytes,
    ) -> Result<u16, FetchError> {
        let url = Url::parse(url).map_err(|_| refused("its address cannot be read"))?;
        self.check(&url)?;
        let mut request = self.client.post(url).timeout(POST_MAX).body(body);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let answer = request.send().await.map_err(|error| not_answered(&error))?;
        Ok(answer.status().as_u16())
    }

    async fn follow(&self, url: &str, bytes_max: u64) -> Result<File, FetchError> {
        let mut url = Url::parse(url).map_err(|_| refused("its address cannot be read"))?;
        for _ in 0..=REDIRECTS_MAX {
            self.check(&url)?;
            let sent = self.client.get(url.clone()).send().await;
            let answer = sent.map_err(|error| not_answered(&error))?;
            match answer.status().as_u16() {
                200 => return read(answer, bytes_max).await,
                301 | 302 | 303 | 307 | 308 => {
                    let to = answer.headers().get(header::LOCATION);
                    let to = to.and_then(|to| url.join(to.to_str().ok()?).ok());
                    url = to.ok_or_else(|| refused("it redirects to nowhere"))?;
                }
                status @ (408 | 425 | 429 | 500..=599) => {
                    let reason = format!("its server answered {status}");
                    return Err(FetchError::Unavailable(reason));
                }
                status => return Err(refused(&format!("its server answered {status}"))),
            }
        }
        Err(refused(&format!(
            "it redirects more than {REDIRECTS_MAX} times"
        )))
    }

    /// What can be refused without resolving anything. An address written as such is never
    /// resolved, so it is checked here.
    fn check(&self, url: &Url) -> Result<(), FetchError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused("only http and https are fetched"));
        }
        let host = url.host_str().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(address) if !is_public(address) && !self.allowed.names(bare) => {
                Err(refused(&NotPublic.to_string()))
            }
            _ => Ok(()),
        }
    }
}

/// Only what this gives is connected to.
impl Resolve for Allowed {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.names(name.as_str());
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let usable: Vec<SocketAddr> = found
                .filter(|found| allowed || is_public(found.ip()))
                .collect();
            match usable.is_empty() {
                true => Err(NotPublic.into()),
                false => Ok(Box::new(usable.into_iter()) as Addrs),
            }
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct NotPublic;

impl StdError for NotPublic {}

impl fmt::Display for NotPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "its host has no public address and is not one of the channel's attachment_hosts",
        )
    }
}

/// Whether an address belongs to the public internet (IANA's special-purpose registries, RFC 6890),
/// and is none at which a cloud answers its own machines.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    /// Networks, by address and length.
    const OTHERS: [([u8; 4], u32); 15] = [
        ([0, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([100, 64, 0, 0], 10),
        ([127, 0, 0, 0], 8),
        ([169, 254, 0, 0], 16),
        ([172, 16, 0, 0], 12),
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 88, 99, 0], 24),
        ([192, 168, 0, 0], 16),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
        ([224, 0, 0, 0], 3),
        // Azure's machines ask this one.
        ([168, 63, 129, 16], 32),
    ];
    let bits = address.to_bits();
    !OTHERS.iter().any(|(network, length)| {
        (bits ^ Ipv4Addr::from(*network).to_bits()).leading_zeros() >= *length
    })
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    let [first, second, ..] = address.segments();
    let bits = address.to_bits();
    // NAT64 (RFC 6052): the last 32 bits are the IPv4 address that is reached.
    if bits >> 32 == 0x0064_ff9b_u128 << 64 {
        return is_public_v4(Ipv4Addr::from_bits(bits as u32));
    }
    let global = first & 0xe000 == 0x2000;
    // IETF protocols with Teredo; documentation, twice; 6to4.
    let special = (first == 0x2001 && (second < 0x0200 || second == 0x0db8))
        || (first == 0x3fff && second < 0x1000)
        || first == 0x2002;
    global && !special
}

async fn read(mut answer: reqwest::Response, bytes_max: u64) -> Result<File, FetchError> {
    let too_large = || refused(&format!("it is larger than {bytes_max} bytes"));
    if answer
        .content_length()
        .is_some_and(|bytes| bytes > bytes_max)
    {
        return Err(too_large());
    }
    let content_type = answer.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let content_type = content_type.filter(|value| value.len() <= CONTENT_TYPE_BYTES_MAX);
    let content_type = content_type.map(str::to_owned);
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| not_answered(&error))? {
        if body.len() as u64 + chunk.len() as u64 > bytes_max {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(File {
        bytes: body.freeze(),
        content_type,
    })
}

fn refused(reason: &str) -> FetchError {
    FetchError::Refused(reason.to_owned())
}

/// The error's own words name addresses, so they are not repeated.
fn not_answered(error: &reqwest::Error) -> FetchError {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(inner) = cause {
        if inner.is::<NotPublic>() {
            return refused(&NotPublic.to_string());
        }
        cause = inner.source();
    }
    let what = if error.is_connect() {
        "its server cannot be reached"
    } else {
        "its server broke off"
    };
    FetchError::Unavailable(what.to_owned())
}

#[cfg(test)]
mod tests;
