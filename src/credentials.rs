//! Credentials that channels obtain at run time, sealed before the store sees them: AES-256-GCM
//! under a key of the installation, bound to the channel and the name they were saved under. A row
//! that is copied to another channel or another name does not open.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use connector_api::{
    CREDENTIAL_BYTES_MAX, CREDENTIAL_NAME_BYTES_MAX, ChannelId, Credentials, Error, ExposeSecret,
    Result, SecretString,
};

use crate::store::Store;

/// First byte of what is kept: how the rest is sealed.
const SEALED_V1: u8 = 1;

/// Seals and opens with the installation's key for this purpose.
pub struct Vault {
    key: RandomizedNonceKey,
}

impl Vault {
    /// `key`: 32 bytes that serve nothing else.
    pub fn new(key: &[u8]) -> Option<Self> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, key).ok()?;
        Some(Self { key })
    }

    fn seal(&self, channel: &ChannelId, name: &str, value: &SecretString) -> Option<Vec<u8>> {
        let mut sealed = value.expose_secret().as_bytes().to_vec();
        let aad = Aad::from(bound_to(channel, name));
        let nonce = self.key.seal_in_place_append_tag(aad, &mut sealed).ok()?;
        let mut kept = vec![SEALED_V1];
        kept.extend_from_slice(nonce.as_ref());
        kept.append(&mut sealed);
        Some(kept)
    }

    fn open(&self, channel: &ChannelId, name: &str, kept: &[u8]) -> Option<SecretString> {
        let (version, rest) = kept.split_first()?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        if *version != SEALED_V1 {
            return None;
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let aad = Aad::from(bound_to(channel, name));
        let mut sealed = sealed.to_vec();
        let opened = self.key.open_in_place(nonce, aad, &mut sealed).ok()?;
        let text = String::from_utf8(opened.to_vec()).ok()?;
        Some(SecretString::from(text))
    }
}

/// Channel ids hold no NUL, so no two pairs are written alike.
fn bound_to(channel: &ChannelId, name: &str) -> Vec<u8> {
    [channel.as_str().as_bytes(), b"\0", name.as_bytes()].concat()
}

/// Where channels keep credentials. Channels are built before the store is opened, and where a
/// configuration is only checked it never is.
#[derive(Default)]
pub struct Keeper {
    opened: OnceLock<(Arc<dyn Store>, Vault)>,
}

impl Keeper {
    /// From here on credentials are read and kept. A second call changes nothing.
    pub fn open(&self, store: Arc<dyn Store>, vault: Vault) {
        self.opened.get_or_init(|| (store, vault));
    }

    fn opened(&self) -> Result<&(Arc<dyn Store>, Vault)> {
        let opened = self.opened.get();
        opened.ok_or_else(|| Error::unavailable("no store of credentials is open"))
    }
}

/// What one channel keeps.
pub struct ChannelCredentials {
    pub channel: ChannelId,
    pub keeper: Arc<Keeper>,
}

#[async_trait]
impl Credentials for ChannelCredentials {
    async fn load(&self, name: &str) -> Result<Option<SecretString>> {
        let (store, vault) = self.keeper.opened()?;
        let kept = store.credential(&self.channel, name).await;
        let kept = kept.map_err(|error| {
            Error::unavailable(format!("cannot read the credential {name}: {error}"))
        })?;
        let Some(kept) = kept else { return Ok(None) };
        match vault.open(&self.channel, name, &kept) {
            Some(value) => Ok(Some(value)),
            None => Err(Error::auth(format!(
                "the kept credential {name} cannot be opened: it was sealed by another installation, or changed"
            ))),
        }
    }

    async fn save(&self, name: &str, value: SecretString) -> Result<()> {
        let bytes = value.expose_secret().len();
        if name.len() > CREDENTIAL_NAME_BYTES_MAX || bytes > CREDENTIAL_BYTES_MAX {
            return Err(Error::too_large(format!(
                "the credential {name} is larger than {CREDENTIAL_BYTES_MAX} bytes, or its name than {CREDENTIAL_NAME_BYTES_MAX}"
            )));
        }
        let (store, vault) = self.keeper.opened()?;
        let Some(sealed) = vault.seal(&self.channel, name, &value) else {
            return Err(Error::unavailable(format!(
                "cannot seal the credential {name}"
            )));
        };
        let saved = store.save_credential(&self.channel, name, sealed);
        saved.await.map_err(|error| {
            Error::unavailable(format!("cannot keep the credential {name}: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_opens_only_for_its_channel_its_name_and_its_installation() {
        let vault = Vault::new(&[7; 32]).unwrap();
        let (mail, chat): (ChannelId, ChannelId) =
            ("mail".parse().unwrap(), "chat".parse().unwrap());
        let sealed = vault
            .seal(&mail, "oauth", &"the refresh token".into())
            .unwrap();
        let shown = |vault: &Vault, channel, name, kept: &[u8]| {
            let opened = vault.open(channel, name, kept);
            opened.map(|value| value.expose_secret().to_owned())
        };
        assert_eq!(
            shown(&vault, &mail, "oauth", &sealed).as_deref(),
            Some("the refresh token")
        );
        assert_eq!(shown(&vault, &chat, "oauth", &sealed), None);
        assert_eq!(shown(&vault, &mail, "other", &sealed), None);
        let elsewhere = Vault::new(&[8; 32]).unwrap();
        assert_eq!(shown(&elsewhere, &mail, "oauth", &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(shown(&vault, &mail, "oauth", &changed), None, "byte {at}");
            assert_eq!(shown(&vault, &mail, "oauth", &sealed[..at]), None);
        }
        let again = vault.seal(&mail, "oauth", &"the refresh token".into());
        assert_ne!(again, Some(sealed), "each sealing has a nonce of its own");
    }
}
