//! What the routing tables know in the end, compared with who is there.

use crate::World;
use crate::report::{Chart, Curve, Report, Row};

/// Tables that are looked into; more would not change the figures by what their noise is.
const SAMPLE: usize = 2_000;

/// A bucket is far if it has so many times more nodes to choose from than places, on average.
const FAR: f64 = 4.0;

/// Buckets with fewer contacts in all tables are not drawn: their shares are noise.
const DRAWN: usize = 50;

/// Contacts of one bucket index, in all tables.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    contacts: usize,
    dead: usize,
    adversaries: usize,
}

/// Adds the figures of up to [`SAMPLE`] tables, taken evenly.
pub(super) fn report(world: &World, k: usize, report: &mut Report) {
    let (mut tables, mut whole, mut nearly, mut known) = (0usize, 0usize, 0usize, 0usize);
    let (mut places, mut taken) = (0usize, 0usize);
    let mut buckets: Vec<Bucket> = Vec::new();
    let honest: Vec<usize> = (0..world.len())
        .filter(|&node| world.machine(node).is_some())
        .collect();
    let every = honest.len().div_ceil(SAMPLE).max(1);
    for &node in honest.iter().step_by(every) {
        let Some(machine) = world.machine(node) else {
            continue;
        };
        let (table, me) = (machine.table(), world.contact(node).id);
        tables += 1;
        let mut truth = world.serving().closest(me.to_key(), k + 1);
        truth.retain(|contact| contact.id != me);
        truth.truncate(k);
        let knows = truth
            .iter()
            .filter(|contact| table.get(contact.id).is_some())
            .count();
        whole += usize::from(knows == truth.len());
        nearly += usize::from(knows + 2 >= truth.len());
        known += knows;
        let mut expected = world.serving().len() as f64 / 2.0;
        let mut bucket = 0;
        while expected > FAR * table.bucket_capacity(bucket) as f64 {
            places += table.bucket_capacity(bucket);
            taken += table.bucket_len(bucket);
            expected /= 2.0;
            bucket += 1;
        }
        for entry in table.contacts() {
            let index = entry.contact.id.distance(me.to_key()).leading_zeros() as usize;
            if buckets.len() <= index {
                buckets.resize(index + 1, Bucket::default());
            }
            let bucket = &mut buckets[index];
            bucket.contacts += 1;
            if world.colluders().contains(entry.contact.id) {
                bucket.adversaries += 1;
            } else if !world.serving().contains(entry.contact.id) {
                bucket.dead += 1;
            }
        }
    }
    let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole as f64;
    let sum = |count: fn(&Bucket) -> usize| buckets.iter().map(count).sum::<usize>();
    let contacts = sum(|bucket| bucket.contacts);
    report.push(Row::new("tables, contacts", "", contacts as f64 / tables as f64));
    report.push(Row::new(
        "tables that know all their k closest",
        "%",
        percent(whole, tables),
    ));
    report.push(Row::new(
        "tables that know all but two of them",
        "%",
        percent(nearly, tables),
    ));
    let closest = k.min(world.serving().len().saturating_sub(1));
    report.push(Row::new(
        "tables, of the k closest",
        "%",
        percent(known, tables * closest),
    ));
    if places > 0 {
        report.push(Row::new("tables, far buckets full", "%", percent(taken, places)));
    }
    report.push(Row::new(
        "tables, dead",
        "%",
        percent(sum(|bucket| bucket.dead), contacts),
    ));
    if !world.colluders().is_empty() {
        let adversaries = percent(sum(|bucket| bucket.adversaries), contacts);
        report.push(Row::new("tables, adversaries", "%", adversaries));
    }
    chart(&buckets, !world.colluders().is_empty(), report);
}

fn chart(buckets: &[Bucket], with_adversaries: bool, report: &mut Report) {
    let curve = |name: &str, count: fn(&Bucket) -> usize| Curve {
        name: name.to_owned(),
        points: buckets
            .iter()
            .enumerate()
            .filter(|(_, bucket)| bucket.contacts >= DRAWN)
            .map(|(index, bucket)| {
                (
                    index as f64,
                    100.0 * count(bucket) as f64 / bucket.contacts as f64,
                )
            })
            .collect(),
    };
    let mut curves = vec![curve("dead", |bucket| bucket.dead)];
    if with_adversaries {
        curves.push(curve("adversaries", |bucket| bucket.adversaries));
    }
    report.charts.push(Chart {
        title: "Contacts that should not be there, by bucket".to_owned(),
        x: "leading bits shared with the table's node".to_owned(),
        y: "% of the contacts".to_owned(),
        log_x: false,
        curves,
    });
}
