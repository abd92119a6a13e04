//! Who wrote a mail and who else is on it. Every word here is the sender's; only the evidence
//! beside it says how far it may be believed.

use connector_api::{
    Defect, Evidence, IdentityClaim, MessageSender, Method, Namespace, Participant, ParticipantRole,
};

use crate::parse::auth_results;
use crate::parse::headers::{Address, Headers};
use crate::parse::limits::ADDRESSES_MAX;

/// The addresses that are us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnAddresses(Vec<String>);

impl OwnAddresses {
    pub fn new<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Self {
        Self(addresses.into_iter().map(str::to_lowercase).collect())
    }

    /// Whether `address` is one of ours, with or without a plus part.
    pub(crate) fn contains(&self, address: &str) -> bool {
        let bare = without_plus(&address.to_lowercase());
        self.0.iter().any(|own| without_plus(own) == bare)
    }

    /// Whether the part after `@` of an address or a Message-ID is the domain of one of ours.
    pub(crate) fn has_domain_of(&self, id: &str) -> bool {
        let domain = |text: &str| text.rsplit_once('@').map(|(_, it)| it.to_lowercase());
        let theirs = domain(id);
        theirs.is_some() && self.0.iter().any(|own| domain(own) == theirs)
    }
}

/// The people of one mail.
#[derive(Debug)]
pub(crate) struct People {
    pub(crate) from: MessageSender,
    pub(crate) participants: Vec<Participant>,
    /// Where the sender wants answers, when it is elsewhere and the mail is verified. No identity:
    /// the author is proven, that the other mailbox is theirs is not.
    pub(crate) reply_to: Option<String>,
    pub(crate) defects: Vec<Defect>,
}

/// By what an author may be proven.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Proof<'a> {
    /// The server whose `Authentication-Results` are believed.
    pub(crate) authserv_id: Option<&'a str>,
    /// The author for whom the service that hands the mail over found that DMARC passed.
    pub(crate) dmarc_author: Option<&'a str>,
}

/// Reads From, Reply-To, To and Cc. `fallback` names a sender where the mail names none.
pub(crate) fn people(
    headers: &Headers<'_>,
    own: &OwnAddresses,
    proof: Proof<'_>,
    fallback: impl Fn() -> String,
) -> People {
    let mut defects = Vec::new();
    let mut left = ADDRESSES_MAX;
    let authors = addresses(headers, "from", &mut left, &mut defects);
    let evidence = match authors.as_slice() {
        [only] if headers.all("from").count() == 1 => evidence(headers, proof, only),
        [] => Evidence::Claimed,
        _ => {
            defects.push(Defect::new("several_from", "more than one author"));
            Evidence::Claimed
        }
    };
    let author = authors.into_iter().next().or_else(|| {
        defects.push(Defect::new("no_from", "no readable author"));
        envelope_author(headers, &mut left)
    });
    let author = author.unwrap_or_else(|| Address {
        name: None,
        address: fallback(),
    });
    let identities = vec![claim(&author.address, evidence)];
    let reply_to = evidence
        .is_verified()
        .then(|| reply_to(headers, &author.address, own, &mut left, &mut defects))
        .flatten();
    let mut participants = Vec::new();
    for (name, role) in [("to", ParticipantRole::To), ("cc", ParticipantRole::Cc)] {
        for found in addresses(headers, name, &mut left, &mut defects) {
            let is_known = participants
                .iter()
                .any(|known: &Participant| known.address == found.address);
            if !is_known && !own.contains(&found.address) && found.address != author.address {
                participants.push(Participant {
                    namespace: Namespace::email(),
                    address: found.address,
                    name: found.name,
                    role,
                });
            }
        }
    }
    People {
        from: MessageSender {
            identities,
            name: author.name,
        },
        participants,
        reply_to,
        defects,
    }
}

/// Lower case, international domains as they were written; `None` for what is no address.
pub(crate) fn normalise(address: &str) -> Option<String> {
    let address = address.trim().trim_matches(['<', '>', '\'', '"']).trim();
    let address = address.strip_prefix("mailto:").unwrap_or(address);
    let (local, domain) = address.rsplit_once('@')?;
    let is_bad = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>' | ',');
    if local.is_empty() || domain.is_empty() || address.len() > 320 || address.contains(is_bad) {
        return None;
    }
    Some(address.trim_end_matches('.').to_lowercase())
}

fn evidence(headers: &Headers<'_>, proof: Proof<'_>, author: &Address) -> Evidence {
    // Somebody else may read an odd header in another way than we do.
    if proof.dmarc_author == Some(author.address.as_str()) {
        return Evidence::Verified(Method::Dmarc);
    }
    let domain = author.address.rsplit_once('@').map(|(_, domain)| domain);
    let (Some(id), Some(domain)) = (proof.authserv_id, domain) else {
        return Evidence::Claimed;
    };
    auth_results::trusted(headers, id).map_or(Evidence::Claimed, |results| results.evidence(domain))
}

fn reply_to(
    headers: &Headers<'_>,
    author: &str,
    own: &OwnAddresses,
    left: &mut usize,
    defects: &mut Vec<Defect>,
) -> Option<String> {
    // A list puts its own address there: an answer for one customer would go to all of it.
    if headers.has("list-id") || headers.has("list-post") {
        return None;
    }
    let found = addresses(headers, "reply-to", left, defects);
    let address = found.into_iter().next()?.address;
    (address != author && !own.contains(&address)).then_some(address)
}

/// A mail without From still came from somewhere.
fn envelope_author(headers: &Headers<'_>, left: &mut usize) -> Option<Address> {
    ["sender", "reply-to", "return-path"]
        .into_iter()
        .find_map(|name| {
            addresses(headers, name, left, &mut Vec::new())
                .into_iter()
                .next()
        })
}

fn addresses(
    headers: &Headers<'_>,
    name: &'static str,
    left: &mut usize,
    defects: &mut Vec<Defect>,
) -> Vec<Address> {
    let mut found = Vec::new();
    for field in headers.all(name) {
        for address in field.addresses().into_iter().flat_map(valid) {
            if *left == 0 {
                if !defects
                    .iter()
                    .any(|defect| defect.code == "too_many_addresses")
                {
                    let detail = format!("more than {ADDRESSES_MAX} addresses");
                    defects.push(Defect::new("too_many_addresses", detail));
                }
                return found;
            }
            *left -= 1;
            found.push(address);
        }
    }
    found
}

/// The address, normalised; several where the commas between them were forgotten.
fn valid(found: Address) -> Vec<Address> {
    if let Some(address) = normalise(&found.address) {
        let name = found.name;
        return vec![Address { name, address }];
    }
    let words = found.address.split_whitespace().filter_map(normalise);
    let nameless = |address| Address {
        name: None,
        address,
    };
    words.take(ADDRESSES_MAX).map(nameless).collect()
}

fn claim(address: &str, evidence: Evidence) -> IdentityClaim {
    IdentityClaim {
        namespace: Namespace::email(),
        address: address.to_owned(),
        evidence,
    }
}

fn without_plus(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((local, domain)) => {
            let local = local.split('+').next().unwrap_or(local);
            format!("{local}@{domain}")
        }
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &str) -> People {
        let mail = format!("{headers}\n\n");
        let (headers, _) = Headers::split(mail.as_bytes());
        let own = OwnAddresses::new(["support@shop.example"]);
        let proof = Proof {
            authserv_id: Some("mx.test.example"),
            dmarc_author: None,
        };
        people(&headers, &own, proof, || "nobody@sender.invalid".to_owned())
    }

    fn senders(people: &People) -> Vec<(&str, bool)> {
        let identities = people.from.identities.iter();
        identities
            .map(|claim| (claim.address.as_str(), claim.evidence.is_verified()))
            .collect()
    }

    #[test]
    fn reply_to_counts_only_on_verified_mail_and_is_no_identity() {
        let stamp = "Authentication-Results: mx.test.example; dmarc=pass header.from=a.example";
        let mail = "From: Ada <Ada@A.example>\nReply-To: other@b.example";
        let people = read(&format!("{stamp}\n{mail}"));
        assert_eq!(senders(&people), [("ada@a.example", true)]);
        assert_eq!(people.reply_to.as_deref(), Some("other@b.example"));
        let people = read(mail);
        assert_eq!(senders(&people), [("ada@a.example", false)]);
        assert_eq!(people.reply_to, None);
    }

    #[test]
    fn an_answer_to_list_mail_goes_to_its_author_and_not_to_the_list() {
        let stamp = "Authentication-Results: mx.test.example; dmarc=pass header.from=a.example";
        let mail = "From: ada@a.example\nReply-To: all@list.example";
        for list in [
            "List-Id: <all.list.example>",
            "List-Post: <mailto:all@list.example>",
        ] {
            let people = read(&format!("{stamp}\n{mail}\n{list}"));
            assert_eq!(senders(&people), [("ada@a.example", true)]);
            assert_eq!(people.reply_to, None, "{list}");
        }
    }

    #[test]
    fn two_authors_are_no_verified_author() {
        let stamp = "Authentication-Results: mx.test.example; dmarc=pass header.from=a.example";
        for from in [
            "From: ada@a.example, eve@a.example",
            "From: ada@a.example eve@a.example",
            "From: ada@a.example\nFrom: eve@a.example",
            "From: ada@a.example\nFrom: rubbish",
        ] {
            let people = read(&format!("{stamp}\n{from}"));
            assert_eq!(senders(&people), [("ada@a.example", false)], "{from}");
        }
    }

    #[test]
    fn participants_are_the_others_once_and_without_us() {
        let people = read(
            "From: ada@a.example\nTo: Support <support+sbx@shop.example>, Bob <bob@b.example>\nCc: bob@b.example, ada@a.example, c@c.example",
        );
        let others: Vec<_> = people
            .participants
            .iter()
            .map(|p| p.address.as_str())
            .collect();
        assert_eq!(others, ["bob@b.example", "c@c.example"]);
    }

    #[test]
    fn a_mail_without_an_author_gets_one_that_is_nobody_elses() {
        assert_eq!(
            senders(&read("Subject: x")),
            [("nobody@sender.invalid", false)]
        );
        assert_eq!(
            senders(&read("From: <>\nReturn-Path: <b@c.example>")),
            [("b@c.example", false)]
        );
    }

    #[test]
    fn the_hundred_and_first_address_is_dropped_and_said() {
        let many: Vec<String> = (0..300).map(|n| format!("a{n}@b.example")).collect();
        let people = read(&format!("From: x@y.example\nTo: {}", many.join(",\n ")));
        assert_eq!(people.participants.len(), ADDRESSES_MAX - 1);
        assert_eq!(people.defects[0].code, "too_many_addresses");
    }
}
