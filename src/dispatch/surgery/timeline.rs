//! The order of messages: by arrival, numbered upwards. A number is given out once: a message that
//! changes its place gets a new one, and so do those after it.

use crate::ids::{ConversationId, MessageId};

/// A message in its conversation, as far as its place matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub id: MessageId,
    pub conversation: ConversationId,
    pub seq: i64,
    pub arrived_at: i64,
}

/// Puts `incoming` among `kept`, each in order, by arrival, and numbers what follows the first of
/// them from `last_seq` on. Gives all in order, with the last number given out.
pub fn arrange(kept: &[Entry], incoming: &[Entry], last_seq: i64) -> (Vec<Entry>, i64) {
    let place = |entry: &Entry| (entry.arrived_at, entry.id);
    let mut waiting = incoming.iter().peekable();
    let mut last = last_seq;
    let mut disturbed = false;
    let mut all = Vec::with_capacity(kept.len() + incoming.len());
    let mut number = |entry: &Entry| {
        last += 1;
        Entry {
            seq: last,
            ..*entry
        }
    };
    for entry in kept {
        while let Some(earlier) = waiting.next_if(|next| place(next) < place(entry)) {
            disturbed = true;
            all.push(number(earlier));
        }
        all.push(if disturbed { number(entry) } else { *entry });
    }
    for later in waiting {
        all.push(number(later));
    }
    (all, last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(arrivals: &[i64], first_id: i64) -> Vec<Entry> {
        let mut arrivals = arrivals.to_vec();
        arrivals.sort_unstable();
        let entry = |(number, arrived_at): (i64, &i64)| Entry {
            id: MessageId(first_id + number),
            conversation: ConversationId(first_id),
            seq: number + 1,
            arrived_at: *arrived_at,
        };
        (0..).zip(&arrivals).map(entry).collect()
    }

    proptest! {
        #[test]
        fn everything_is_there_once_by_arrival_with_rising_numbers_and_no_number_is_given_twice(
            kept in prop::collection::vec(0i64..50, 0..20), incoming in prop::collection::vec(0i64..50, 0..20),
        ) {
            let (kept, incoming) = (entries(&kept, 1), entries(&incoming, 1_000));
            let last_seq = kept.len() as i64;
            let (all, last) = arrange(&kept, &incoming, last_seq);
            prop_assert_eq!(all.len(), kept.len() + incoming.len());
            prop_assert!(all.is_sorted_by_key(|entry| (entry.arrived_at, entry.id)));
            prop_assert!(all.is_sorted_by(|one, next| one.seq < next.seq));
            for entry in &all {
                let before = kept.iter().find(|before| before.seq == entry.seq);
                prop_assert!(before.is_none_or(|before| before.id == entry.id));
                prop_assert!(entry.seq <= last);
            }
        }
    }

    #[test]
    fn what_comes_before_the_first_newcomer_keeps_its_number() {
        let (all, last) = arrange(&entries(&[1, 2, 5], 1), &entries(&[3, 9], 1_000), 3);
        let seqs: Vec<(i64, i64)> = all.iter().map(|entry| (entry.id.0, entry.seq)).collect();
        assert_eq!(seqs, [(1, 1), (2, 2), (1_000, 4), (3, 5), (1_001, 6)]);
        assert_eq!(last, 6);
    }
}
