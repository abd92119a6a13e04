//! `store.url`, and what of it belongs elsewhere.

/// What is wrong with a database's URL, without repeating it: it may hold a password.
#[cfg(feature = "postgres")]
pub fn check(url: &str) -> Result<(), String> {
    let read: tokio_postgres::Config = url.parse().map_err(|error| {
        let reason = std::error::Error::source(&error).map_or_else(
            || tokio_postgres::Error::to_string(&error),
            ToString::to_string,
        );
        format!("this is no URL of a PostgreSQL database ({reason}): use postgres://user@host:5432/database")
    })?;
    if read.get_password().is_some() {
        return Err("there is a password in it: take it out, and name where it is in store.password, as { env = \"…\" } or { file = \"…\" }".to_owned());
    }
    for (missing, what) in [
        (read.get_user().is_none(), "a user"),
        (read.get_hosts().is_empty(), "a host"),
        (read.get_dbname().is_none(), "a database"),
    ] {
        if missing {
            return Err(format!(
                "{what} is missing: use postgres://user@host:5432/database"
            ));
        }
    }
    if url.contains("sslmode") || url.contains("sslnegotiation") {
        return Err(
            "whether it is encrypted is said by store.tls: take it out of the URL".to_owned(),
        );
    }
    Ok(())
}

/// A build without PostgreSQL refuses the pair before this.
#[cfg(not(feature = "postgres"))]
pub fn check(_: &str) -> Result<(), String> {
    Ok(())
}
