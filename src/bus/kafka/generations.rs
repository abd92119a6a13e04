//! The generations of the topic that is read, as they were last heard of: where records go, what is read, and
//! what has to be decided before a partition is.

use crate::store::partitions::{Generation, Stage};

/// Those of one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Generations(Vec<Generation>);

/// What a partition waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Its topic is not open yet.
    Opening,
    /// Another partition is to be decided through this record.
    Until { partition: u32, end: i64 },
}

impl Generations {
    /// Oldest first.
    pub fn new(all: Vec<Generation>) -> Self {
        Self(all)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of the newest, 0 where nothing is known.
    pub fn newest(&self) -> u32 {
        self.0.last().map_or(0, |one| one.number)
    }

    fn at(&self, stage: Stage) -> Option<&Generation> {
        self.0.iter().rev().find(|one| one.stage == stage)
    }

    /// Where what is accepted goes.
    pub fn open(&self) -> Option<&Generation> {
        self.at(Stage::Open)
    }

    pub fn coming(&self) -> Option<&Generation> {
        self.at(Stage::Coming)
    }

    pub fn sealed(&self) -> Option<&Generation> {
        self.at(Stage::Sealed)
    }

    /// Those that are read.
    pub fn read(&self) -> impl Iterator<Item = &Generation> {
        self.0.iter().filter(|one| one.stage != Stage::Left)
    }

    pub fn topics(&self) -> Vec<String> {
        self.read().map(|one| one.topic.clone()).collect()
    }

    /// Whether any ever had so many partitions.
    pub fn had(&self, partitions: u32) -> bool {
        self.0.iter().any(|one| one.count() == partitions)
    }

    /// The store's number of a partition.
    pub fn number(&self, topic: &str, partition: i32) -> Option<u32> {
        let at = usize::try_from(partition).ok()?;
        let of = self.0.iter().find(|one| one.topic == topic)?;
        of.partitions.get(at).copied()
    }

    /// Which partition has this number.
    pub fn place(&self, number: u32) -> Option<(&str, i32)> {
        self.find(number)
            .and_then(|(of, at)| Some((of.topic.as_str(), i32::try_from(at).ok()?)))
    }

    fn find(&self, number: u32) -> Option<(&Generation, usize)> {
        self.0.iter().find_map(|one| {
            let at = one.partitions.iter().position(|known| *known == number)?;
            Some((one, at))
        })
    }

    /// Above which the numbers of a partition's records begin.
    pub fn base(&self, number: u32) -> i64 {
        self.find(number).map_or(0, |(of, _)| of.base)
    }

    /// The last record of a partition that is sealed.
    pub fn end(&self, number: u32) -> Option<i64> {
        let (of, at) = self.find(number)?;
        of.ends.get(at).copied()
    }

    /// All customers of a partition were in one of the generation before: it is decided once that one is.
    pub fn waits_for(&self, number: u32) -> Option<Wait> {
        let (of, at) = self.find(number)?;
        if of.stage == Stage::Coming {
            return Some(Wait::Opening);
        }
        let before = self.read().find(|one| one.number + 1 == of.number)?;
        let at = at % before.partitions.len().max(1);
        let partition = *before.partitions.get(at)?;
        match before.ends.get(at) {
            Some(end) => Some(Wait::Until {
                partition,
                end: *end,
            }),
            None => Some(Wait::Opening),
        }
    }

    /// What of a change to more partitions is not done yet.
    pub fn change(&self) -> Option<String> {
        let again = |count: u32| format!("switchboard bus grow --partitions {count} goes on");
        if let Some(coming) = self.coming() {
            let (topic, count) = (&coming.topic, coming.count());
            return Some(format!(
                "{topic} with {count} partitions is made and not used yet: {}",
                again(count)
            ));
        }
        let sealed = self.sealed()?;
        let count = self.open().map_or(0, Generation::count);
        Some(format!(
            "{} gave way to {count} partitions and is still read: {}",
            sealed.topic,
            again(count)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::partitions::topic_of;

    fn generation(number: u32, stage: Stage, partitions: &[u32], ends: &[i64]) -> Generation {
        Generation {
            number,
            topic: topic_of("shop.inbound", number),
            stage,
            partitions: partitions.to_vec(),
            base: 0,
            ends: ends.to_vec(),
        }
    }

    #[test]
    fn a_partition_waits_for_the_one_that_had_its_customers() {
        let check = |stages: [Stage; 2], ends: &[i64], expected: [Option<Wait>; 4]| {
            let [old, new] = stages;
            let known = Generations::new(vec![
                generation(1, old, &[1, 2], ends),
                generation(2, new, &[3, 4, 5, 6], &[]),
            ]);
            let waits = [3, 4, 5, 6].map(|number| known.waits_for(number));
            assert_eq!(waits, expected, "{stages:?}");
            assert_eq!(known.waits_for(1), None);
        };
        let opening = Some(Wait::Opening);
        let until = |partition, end| Some(Wait::Until { partition, end });
        check([Stage::Open, Stage::Coming], &[], [opening; 4]);
        check(
            [Stage::Sealed, Stage::Open],
            &[70, 0],
            [until(1, 70), until(2, 0), until(1, 70), until(2, 0)],
        );
        check([Stage::Left, Stage::Open], &[70, 0], [None; 4]);
    }

    #[test]
    fn partitions_of_two_topics_are_told_apart_and_one_that_is_left_is_not_read() {
        let of = |stage| {
            Generations::new(vec![
                generation(1, stage, &[1, 2], &[70, 0]),
                generation(2, Stage::Open, &[3, 4, 5, 6], &[]),
            ])
        };
        let both = of(Stage::Sealed);
        assert_eq!(both.number("shop.inbound", 1), Some(2));
        assert_eq!(both.number("shop.inbound.2", 1), Some(4));
        assert_eq!(both.place(2), Some(("shop.inbound", 1)));
        assert_eq!(both.place(6), Some(("shop.inbound.2", 3)));
        assert_eq!((both.end(1), both.end(3)), (Some(70), None));
        assert_eq!(both.topics(), ["shop.inbound", "shop.inbound.2"]);
        assert_eq!(of(Stage::Left).topics(), ["shop.inbound.2"]);
    }
}
