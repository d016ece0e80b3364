//! What things weigh in memory: the bytes that the allocator gives for them, as close as can be told without asking it.

use inferadb_engine::context::{Context, Value};
use inferadb_engine::noun::Name;
use inferadb_engine::noun::ObjectId;
use inferadb_engine::row::{Entry, Row, Supply, Terms};
use inferadb_engine::schema::{
    Allowed, Caveat, Expr, Member, MemberId, Schema, Slot, SlotId, SlotSubject, Type, TypeId,
};

/// Ids up to this length are stored inline.
const INLINE_ID_BYTES: usize = 23;
/// The two counts before what an `Arc` holds.
const ARC_BYTES: usize = 16;
/// The most members in a node of a `BTreeMap`, and how many there are on average.
const MAP_NODE: usize = 11;

/// What the allocator takes for an object of so many bytes: it has four sizes between a power of two and the next, and below
/// 128 bytes one every 16.
pub const fn allocated(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=128 => bytes.next_multiple_of(16),
        _ => {
            let step = 1 << (bytes.ilog2() - 2);
            bytes.next_multiple_of(step)
        }
    }
}

/// What an id takes beside its own size.
pub fn id_bytes(id: &ObjectId) -> usize {
    match id.as_str().len() {
        0..=INLINE_ID_BYTES => 0,
        len => allocated(ARC_BYTES + len),
    }
}

/// What a row takes beside its own size, its entries' ids and terms included.
pub fn row_bytes(row: &Row) -> usize {
    of_row_alone(row) + row.entries().map(entry_bytes).sum::<usize>()
}

/// What a row takes beside its own size and what its entries point to.
pub fn of_row_alone(row: &Row) -> usize {
    match row.allocated_bytes() {
        // A wide row is many allocations, none of them large.
        bytes @ 4_096.. => bytes,
        bytes => allocated(bytes),
    }
}

/// What an entry's id and terms take beside the entry's own size.
pub fn entry_bytes(entry: &Entry) -> usize {
    id_bytes(&entry.subject) + entry.terms.as_deref().map_or(0, terms_bytes)
}

/// What the caveats weigh that an answer of storage stands under.
pub fn supplied_terms_bytes(supply: &Supply) -> usize {
    let of = |entry: &Entry| entry.terms.as_deref().map_or(0, terms_bytes);
    match supply {
        Supply::Row(row) => row.entries().map(of).sum(),
        Supply::Entry(entry) => entry.as_ref().map_or(0, of),
    }
}

/// What an entry's terms take.
pub fn terms_bytes(terms: &Terms) -> usize {
    let context = terms
        .caveat
        .as_ref()
        .map_or(0, |(_, context)| context_bytes(context));
    allocated(ARC_BYTES + size_of::<Terms>()) + context
}

/// What the members of a context take in memory, in bytes.
pub fn context_bytes(context: &Context) -> usize {
    /// A node's arrays, its parent and its counts.
    const NODE: usize = MAP_NODE * (size_of::<String>() + size_of::<Value>()) + 16;
    let nodes = match context.len() {
        0 => 0,
        len @ 1..=MAP_NODE => len.div_ceil(MAP_NODE),
        // Nodes that were split are about two thirds full.
        len => len.div_ceil(MAP_NODE * 2 / 3),
    };
    let members = context.iter();
    nodes * allocated(NODE)
        + members
            .map(|(name, value)| allocated(name.len()) + value_bytes(value))
            .sum::<usize>()
}

/// What a value takes beside its own size. Recurses as deep as a stored context nests, which storage bounds.
fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) => 0,
        Value::String(text) => allocated(text.len()),
        Value::List(items) => {
            allocated(size_of_val(items.as_slice())) + items.iter().map(value_bytes).sum::<usize>()
        }
        Value::Map(members) => context_bytes(members),
    }
}

/// What a compiled schema takes, with its text and, for each relation, its readers.
pub fn schema_bytes(schema: &Schema, text: &str, readers: &[Vec<MemberId>]) -> usize {
    let doc = |doc: &Option<String>| doc.as_ref().map_or(0, |doc| allocated(doc.len()));
    let types = schema.types().iter();
    let types: usize = types
        .map(|of| {
            size_of::<Type>()
                + vec_bytes::<MemberId>(of.members.len())
                + doc(&of.doc)
                + table_entry(size_of::<(Name, TypeId)>())
        })
        .sum();
    let members = schema.members().iter();
    let members: usize = members
        .map(|of| {
            size_of::<Member>()
                + vec_bytes::<MemberId>(of.slots.len() + of.reads.len())
                + expr_bytes(&of.expr)
                + doc(&of.doc)
                + table_entry(size_of::<(TypeId, Name, MemberId)>())
        })
        .sum();
    let slots = schema.slots().iter();
    let slots: usize = slots
        .map(|of| size_of::<Slot>() + vec_bytes::<Allowed>(of.allowed.len()))
        .sum();
    let caveats = schema.caveats().iter();
    let caveats: usize = caveats
        .map(|of| {
            // Each operator and name of an expression is a node of its own, and a few characters of text.
            let program = of.expression.len() * 32;
            size_of::<Caveat>()
                + allocated(of.expression.len())
                + program
                + of.parameters.len() * 128
                + doc(&of.doc)
        })
        .sum();
    let readers: usize = readers
        .iter()
        .map(|of| size_of::<Vec<MemberId>>() + vec_bytes::<MemberId>(of.len()))
        .sum();
    let classes = schema.indexed_slots() * table_entry(size_of::<(MemberId, TypeId, SlotSubject, SlotId)>());
    types + members + slots + classes + caveats + readers + allocated(text.len())
}

/// What an expression takes beside its own size. Recurses as deep as a schema nests, which the compiler bounds.
fn expr_bytes(expr: &Expr) -> usize {
    match expr {
        Expr::This | Expr::Nil | Expr::Itself | Expr::Member(_) => 0,
        Expr::Union(operands) | Expr::Intersection(operands) => {
            vec_bytes::<Expr>(operands.len()) + operands.iter().map(expr_bytes).sum::<usize>()
        }
        Expr::Exclusion(left, right) => {
            2 * allocated(size_of::<Expr>()) + expr_bytes(left) + expr_bytes(right)
        }
        Expr::Arrow { targets, .. } => vec_bytes::<(TypeId, MemberId)>(targets.len()),
    }
}

/// What a vector of so many items takes that was filled one by one.
fn vec_bytes<T>(len: usize) -> usize {
    match len {
        0 => 0,
        len => allocated(len.next_power_of_two().max(4) * size_of::<T>()),
    }
}

/// What an entry of a hash table takes with its share of the places that are free.
fn table_entry(bytes: usize) -> usize {
    (bytes + 1) * 3 / 2
}
