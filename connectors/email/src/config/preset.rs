//! What is known of well-known providers, so that a channel there needs an address and a client.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::Tls;
use crate::config::oauth::{GrantKind, Known};

/// A provider whose servers and OAuth endpoints are known. Keys that are given win over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Gmail and Google Workspace.
    Gmail,
    /// Exchange Online.
    Microsoft365,
}

/// A server of a provider.
pub(super) struct KnownServer {
    pub(super) host: &'static str,
    pub(super) port: u16,
    pub(super) tls: Tls,
}

impl Preset {
    pub(super) fn imap(self) -> KnownServer {
        let host = match self {
            Self::Gmail => "imap.gmail.com",
            Self::Microsoft365 => "outlook.office365.com",
        };
        KnownServer {
            host,
            port: 993,
            tls: Tls::Implicit,
        }
    }

    pub(super) fn smtp(self) -> KnownServer {
        match self {
            Self::Gmail => KnownServer {
                host: "smtp.gmail.com",
                port: 465,
                tls: Tls::Implicit,
            },
            Self::Microsoft365 => KnownServer {
                host: "smtp.office365.com",
                port: 587,
                tls: Tls::Starttls,
            },
        }
    }

    /// Google locks an account out of IMAP for up to a day that reads more than 2,500 MB in one
    /// (<https://support.google.com/a/answer/1071518>); people read theirs, too.
    pub(super) fn backfill_bytes_per_day(self) -> Option<u64> {
        match self {
            Self::Gmail => Some(1_500_000_000),
            Self::Microsoft365 => None,
        }
    }

    /// Google's device codes cannot ask for mail, so there it is a browser. Microsoft knows loopback
    /// as `localhost` only.
    pub(super) fn oauth(self, tenant: Option<&str>, grant: GrantKind) -> Known {
        match self {
            Self::Gmail => Known {
                token_url: "https://oauth2.googleapis.com/token".to_owned(),
                device_authorization_url: None,
                authorize_url: Some("https://accounts.google.com/o/oauth2/v2/auth".to_owned()),
                scopes: &["https://mail.google.com/"],
                redirect_host: "127.0.0.1",
                // Without these there is no refresh token, or only the first time.
                authorize_extra: &[("access_type", "offline"), ("prompt", "consent")],
            },
            Self::Microsoft365 => {
                let tenant = tenant.unwrap_or("organizations");
                let base = format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0");
                Known {
                    token_url: format!("{base}/token"),
                    device_authorization_url: Some(format!("{base}/devicecode")),
                    authorize_url: Some(format!("{base}/authorize")),
                    scopes: match grant {
                        GrantKind::Refresh => &[
                            "https://outlook.office.com/IMAP.AccessAsUser.All",
                            "https://outlook.office.com/SMTP.Send",
                            "offline_access",
                        ],
                        GrantKind::ClientCredentials => &["https://outlook.office365.com/.default"],
                    },
                    redirect_host: "localhost",
                    authorize_extra: &[("prompt", "select_account")],
                }
            }
        }
    }

    /// Why this provider's servers take no passwords, if they take none.
    pub(super) fn fault_of_password(self) -> Option<&'static str> {
        match self {
            Self::Gmail => None,
            Self::Microsoft365 => Some("Microsoft 365 takes no passwords any more: use oauth"),
        }
    }

    pub(super) fn fault_of_application(self, has_tenant: bool) -> Option<String> {
        match self {
            Self::Gmail => Some(
                "Gmail knows no oauth.grant = \"client_credentials\": leave it out, and run channel authorize"
                    .to_owned(),
            ),
            Self::Microsoft365 if !has_tenant => {
                Some("oauth.tenant is missing: client_credentials needs it".to_owned())
            }
            Self::Microsoft365 => None,
        }
    }
}
