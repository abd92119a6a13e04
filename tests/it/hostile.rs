//! What somebody does who means harm, each as a test that bears the number of the failure of another
//! desk that it comes from.
//!
//! | failure | here |
//! | --- | --- |
//! | FreeScout CVE-2026-40591: an agent binds conversations to customers of other mailboxes | `access::cve_2026_40591_…` |
//! | FreeScout CVE-2026-47123: a forged mail is taken for an agent's answer | `threads::cve_2026_47123_…` |
//! | Zammad CVE-2026-34722: what is linked to is not authorised | `access::cve_2026_34722_…` |
//! | Typebot CVE-2026-39969: webhooks whose signature nobody checks | `hooks::cve_2026_39969_…`; connector-email `hooks` and the testkit's cases for each service |
//! | Flowise GHSA-c2c9-mfw7-p8hw: rows of others where a column is empty | `access::ghsa_c2c9_mfw7_p8hw_…` |
//! | Mailpit CVE-2026-27808: one more path that fetches any address | `fetches::cve_2026_27808_…`; `http::egress::tests` (in the library), connector-email `hooks` for what SNS names |
//! | Open WebUI CVE-2026-45349: an id is access; CVE-2026-44569: reading is writing | `access::cve_2026_45349_…`, `access::cve_2026_44569_…` |
//! | guessed In-Reply-To, References, Thread-Index | `threads`; `joining::hints` rule by rule |
//! | one Message-ID, other content | `threads`; `joining::changes` |
//! | forged Authentication-Results | `proofs`; connector-email `parse::auth_results::tests` |
//! | headers injected into answers | `injection`; connector-email `composing` |
//! | FreeScout 3670, 2445, 4143, Chatwoot 5131: machines that answer each other | `loops` in pairs, `party` all at once |
//! | bombs: JSON, bodies and heads that never end | `bombs`, `api::deadlines`, `api::hooks`; connector-email `hostile` for mail |
//! | any bytes in any parser | `parsers`, which replays the corpus of `fuzz/` |

mod access;
mod bombs;
mod fetches;
mod hooks;
mod injection;
mod parsers;
mod party;
mod proofs;
mod threads;
