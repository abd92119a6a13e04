//! What only an installation of several processes needs: its database, and files that all of them find.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
#[cfg(feature = "postgres")]
use std::sync::Arc;

use crate::blobs::random;
use crate::store::{Store, name_of};

use super::StartError;

/// In a directory of files: the number by which a store knows it.
const NUMBER_FILE: &str = "number";
/// Whose they are.
const INSTALLATION_FILE: &str = "installation";
/// Under which name the store keeps it.
pub const NUMBER_KEY: &str = "blobs_dir";

/// The database as it is configured. Its password is read for each connection, and has to be there now.
#[cfg(feature = "postgres")]
pub fn database(
    config: &crate::config::Config,
) -> Result<crate::store::postgres::Database, StartError> {
    use std::time::Duration;

    use crate::channels::read_secret;
    use crate::config::ConfigErrors;
    use crate::store::postgres::{Database, TargetSessionAttrs};

    /// A server that says nothing for so long is taken for gone.
    const SILENT_MAX: Duration = Duration::from_secs(10);
    const PROBED_EVERY: Duration = Duration::from_secs(3);
    /// Shared out among the hosts: one that is gone without a word leaves time for those behind it.
    const CONNECTED_WITHIN: Duration = Duration::from_secs(3);

    let store = &config.store;
    let mut errors = ConfigErrors::default();
    let mut wrong = |key: &str, error: String| errors.push(config.origin(key), key, error);
    let url = store.url.as_deref().unwrap_or_default();
    let parsed = url.parse::<crate::store::postgres::Config>();
    let parsed = parsed.map_err(|error| wrong("store.url", error.to_string()));
    if let Some(Err(error)) = store.password.as_ref().map(read_secret) {
        wrong("store.password", error.to_string());
    }
    let tls = (store.tls == Some(crate::config::StoreTls::On))
        .then(|| client(store.ca_file.as_deref()))
        .transpose()
        .map_err(|(path, error)| {
            wrong("store.ca_file", format!("{}: {error}", path.display()));
        });
    let (Ok(mut database), Ok(tls), true) = (parsed, tls, errors.is_empty()) else {
        return Err(errors.into());
    };
    if !url.contains("target_session_attrs") {
        // A standby would be read from as it was, and takes no writes.
        database.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    let hosts = u32::try_from(database.get_hosts().len())
        .unwrap_or(1)
        .max(1);
    database
        .application_name("switchboard")
        .connect_timeout(CONNECTED_WITHIN / hosts)
        .tcp_user_timeout(SILENT_MAX)
        .keepalives_idle(PROBED_EVERY)
        .keepalives_interval(PROBED_EVERY);
    let database = match tls {
        Some(client) => Database::over_tls(database, client),
        None => database.into(),
    };
    Ok(match store.password.clone() {
        None => database,
        Some(password) => database.with_password(Arc::new(move || {
            read_secret(&password).map_err(|error| error.to_string())
        })),
    })
}

/// TLS that believes this authority, or those that browsers know.
#[cfg(feature = "postgres")]
fn client(
    authority: Option<&Path>,
) -> Result<std::sync::Arc<rustls::ClientConfig>, (std::path::PathBuf, String)> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    let mut roots = rustls::RootCertStore::empty();
    match authority {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let wrong = |error: &dyn std::fmt::Display| (path.to_owned(), error.to_string());
            let found = CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))?;
            for certificate in found {
                let certificate = certificate.map_err(|error| wrong(&error))?;
                roots.add(certificate).map_err(|error| wrong(&error))?;
            }
            if roots.is_empty() {
                return Err(wrong(&"there is no certificate in it"));
            }
        }
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots);
    Ok(std::sync::Arc::new(config.with_no_client_auth()))
}

/// Settings of the server that are taken though they are off.
#[cfg(feature = "postgres")]
pub fn accepted(config: &crate::config::Config) -> Vec<crate::store::postgres::Risk> {
    use crate::config::UnsafeDatabase;
    use crate::store::postgres::Risk;

    let accepted = |one: &UnsafeDatabase| match one {
        UnsafeDatabase::Fsync => Risk::Fsync,
        UnsafeDatabase::FullPageWrites => Risk::FullPageWrites,
        UnsafeDatabase::SynchronousCommit => Risk::SynchronousCommit,
    };
    config.store.accept_unsafe.iter().map(accepted).collect()
}

/// What to do about a database that will not have us.
#[cfg(feature = "postgres")]
pub fn explained(error: crate::store::StoreError, config: &crate::config::Config) -> StartError {
    use crate::store::StoreError;

    let StoreError::Forbidden(reason) = error else {
        return error.into();
    };
    let key = "store.url";
    let mut errors = crate::config::ConfigErrors::default();
    let wrong = format!(
        "the database refuses us: {reason}: look at its users, their rights and their passwords, and at store.password"
    );
    errors.push(config.origin(key), key, wrong);
    StartError::Config(errors)
}

/// Makes sure that the files are where the other processes of this database have theirs.
pub async fn same_files(store: &dyn Store, dir: &Path) -> Result<(), StartError> {
    let failed = |error| StartError::DataDir {
        path: dir.to_owned(),
        error,
    };
    let ours = name_of(store.installation_key());
    let whose = noted(dir, INSTALLATION_FILE, || Ok(ours.clone())).map_err(failed)?;
    if whose != ours {
        let wrong = of_another("store.blobs_dir", &dir.display().to_string());
        return Err(StartError::Other(wrong));
    }
    let here = number_of(dir).map_err(failed)?;
    let there = store.agree(NUMBER_KEY, here).await?;
    if here == there {
        return Ok(());
    }
    Err(StartError::Other(format!(
        "{}: the other processes of this database keep their files elsewhere: set store.blobs_dir to one \
         directory that all of them have (on one machine, or a file system that all of them mounted), or \
         store.blobs_url to a bucket",
        dir.display()
    )))
}

/// What to do where the files are somebody else's: each would remove what only the other knows.
pub fn of_another(key: &str, place: &str) -> String {
    format!(
        "{key}: the files at {place} are of another installation, as {INSTALLATION_FILE} there says: name a place of \
         this installation's own"
    )
}

/// The directory's number, which it is given when it has none.
pub fn number_of(dir: &Path) -> io::Result<i64> {
    let number = noted(dir, NUMBER_FILE, || Ok(random()?.to_string()))?;
    number.parse().map_err(io::Error::other)
}

/// What a directory says of itself in a file, which is given `first` where there is none.
fn noted(dir: &Path, file: &str, first: impl Fn() -> io::Result<String>) -> io::Result<String> {
    let path = dir.join(file);
    loop {
        match fs::read_to_string(&path) {
            Ok(text) => return Ok(text.trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => note(dir, &path, &first()?)?,
            Err(error) => return Err(error),
        }
    }
}

/// Another process may be doing the same: whoever links its file first has said it.
fn note(dir: &Path, path: &Path, text: &str) -> io::Result<()> {
    let beside = dir.join(format!("{NUMBER_FILE}.{:x}", random()?));
    let mut file = fs::File::create_new(&beside)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    let linked = fs::hard_link(&beside, path);
    fs::remove_file(&beside)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::File::open(dir)?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_files_is_given_one_number_whoever_asks_first() {
        let dir = tempfile::tempdir().unwrap();
        let numbers: Vec<i64> = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| number_of(dir.path()).unwrap()))
                .collect();
            asking.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(numbers.iter().all(|number| *number == numbers[0]));
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing is left beside it");
    }
}
