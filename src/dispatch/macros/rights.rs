//! Whose a macro is: of certain queues and brands, or of all. What it says is its shop's own, so
//! nobody of another brand sees it, and nobody changes it for more than they work for.

use connector_api::{BrandId, QueueId};

use crate::dispatch::{Actor, Refusal, Role};
use crate::router::facts::Conversation;

use super::Macro;

impl Macro {
    /// Whether the actor works in one of its queues and for one of its brands.
    pub fn may_be_used_by(&self, actor: &Actor) -> bool {
        overlap(&self.queues, &queues(actor)) && overlap(&self.brands, &brands(actor))
    }

    /// Whether the actor may keep it as it stands, or give it up: whoever does so does it for all
    /// whose it is.
    pub fn may_be_kept_by(&self, actor: &Actor) -> Result<(), Refusal> {
        match actor.role {
            Role::Supervisor | Role::Admin => {}
            role => return Err(Refusal::Role { role }),
        }
        for (field, whose, own) in [
            ("brands", &self.brands, brands(actor)),
            ("queues", &self.queues, queues(actor)),
        ] {
            let inside = !whose.is_empty() && whose.iter().all(|name| own.contains(&name.as_str()));
            if !own.is_empty() && !inside {
                let own = own.into_iter().map(str::to_owned).collect();
                return Err(Refusal::Beyond { field, own });
            }
        }
        Ok(())
    }

    /// Refuses a conversation of another brand or queue than it is for.
    pub fn fits(&self, conversation: &Conversation) -> Result<(), Refusal> {
        for (what, whose, of) in [
            ("brand", &self.brands, conversation.brand.as_str()),
            ("queue", &self.queues, conversation.queue.as_str()),
        ] {
            if !whose.is_empty() && !whose.iter().any(|name| name == of) {
                return Err(Refusal::Unusable {
                    field: "conversation_id",
                    reason: format!("this macro is not for conversations of the {what} {of}"),
                });
            }
        }
        Ok(())
    }

    /// Whether somebody could see both of one name and not know which is which.
    pub fn is_confused_with(&self, other: &Self) -> bool {
        let brands: Vec<&str> = other.brands.iter().map(String::as_str).collect();
        self.name == other.name && overlap(&self.brands, &brands)
    }
}

fn queues(actor: &Actor) -> Vec<&str> {
    actor.queues.iter().map(QueueId::as_str).collect()
}

fn brands(actor: &Actor) -> Vec<&str> {
    actor.brands.iter().map(BrandId::as_str).collect()
}

/// Empty is all, on both sides.
fn overlap(whose: &[String], own: &[&str]) -> bool {
    whose.is_empty() || own.is_empty() || whose.iter().any(|name| own.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn actor(role: Role, queues: &[&str], brands: &[&str]) -> Actor {
        Actor {
            role,
            agent: None,
            queues: queues.iter().map(|queue| queue.parse().unwrap()).collect(),
            brands: brands.iter().map(|brand| brand.parse().unwrap()).collect(),
            acting: None,
            acts: false,
        }
    }

    #[test]
    fn a_macro_is_used_where_it_overlaps_and_kept_where_it_is_all_ones_own() {
        let actors = [
            ("agent of main", actor(Role::Agent, &[], &["main"])),
            (
                "supervisor of everything",
                actor(Role::Supervisor, &[], &[]),
            ),
            (
                "supervisor of main",
                actor(Role::Supervisor, &[], &["main"]),
            ),
            (
                "supervisor of returns",
                actor(Role::Supervisor, &["returns"], &[]),
            ),
            ("admin of outlet", actor(Role::Admin, &[], &["outlet"])),
        ];
        let mut table = String::new();
        for (queues, brands) in [
            ("", ""),
            ("", "main"),
            ("", "main outlet"),
            ("returns", ""),
            ("returns", "main"),
            ("sales", "outlet"),
        ] {
            let owned = |words: &str| {
                words
                    .split(' ')
                    .filter(|word| !word.is_empty())
                    .map(str::to_owned)
                    .collect()
            };
            let content = Macro {
                queues: owned(queues),
                brands: owned(brands),
                ..Macro::default()
            };
            table += &format!("[{queues}] [{brands}]\n");
            for (who, actor) in &actors {
                let kept = match content.may_be_kept_by(actor) {
                    Ok(()) => "kept".to_owned(),
                    Err(refusal) => refusal.to_string(),
                };
                table += &format!(
                    "  {who}: {}, {kept}\n",
                    if content.may_be_used_by(actor) {
                        "used"
                    } else {
                        "-"
                    }
                );
            }
        }
        expect![[r#"
            [] []
              agent of main: used, an agent may not do this
              supervisor of everything: used, kept
              supervisor of main: used, this token keeps what is of its own brands only: main
              supervisor of returns: used, this token keeps what is of its own queues only: returns
              admin of outlet: used, this token keeps what is of its own brands only: outlet
            [] [main]
              agent of main: used, an agent may not do this
              supervisor of everything: used, kept
              supervisor of main: used, kept
              supervisor of returns: used, this token keeps what is of its own queues only: returns
              admin of outlet: -, this token keeps what is of its own brands only: outlet
            [] [main outlet]
              agent of main: used, an agent may not do this
              supervisor of everything: used, kept
              supervisor of main: used, this token keeps what is of its own brands only: main
              supervisor of returns: used, this token keeps what is of its own queues only: returns
              admin of outlet: used, this token keeps what is of its own brands only: outlet
            [returns] []
              agent of main: used, an agent may not do this
              supervisor of everything: used, kept
              supervisor of main: used, this token keeps what is of its own brands only: main
              supervisor of returns: used, kept
              admin of outlet: used, this token keeps what is of its own brands only: outlet
            [returns] [main]
              agent of main: used, an agent may not do this
              supervisor of everything: used, kept
              supervisor of main: used, kept
              supervisor of returns: used, kept
              admin of outlet: -, this token keeps what is of its own brands only: outlet
            [sales] [outlet]
              agent of main: -, an agent may not do this
              supervisor of everything: used, kept
              supervisor of main: -, this token keeps what is of its own brands only: main
              supervisor of returns: -, this token keeps what is of its own queues only: returns
              admin of outlet: used, kept
        "#]]
        .assert_eq(&table);
    }
}
