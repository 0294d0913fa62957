//! Which rows there are of a maildrop and of none: tables, columns and keys as the schema has them, so that what is added
//! there is copied, too.

use rusqlite::types::Value;
use rusqlite::{Connection, ToSql};

use crate::state::schema;
use crate::state::tables::{Fault, Result, Row, Tables};

/// Rows that are in memory at once.
const PAGE: usize = 500;

/// Rows that one statement writes.
const CHUNK: usize = 50;

/// The values of a row, in the order of the columns.
pub type Values = Vec<Value>;

/// A table, without the number of the maildrop, which each store gives by itself.
#[derive(Debug)]
pub struct Shape {
    pub name: String,
    columns: Vec<String>,
    /// The places of those that tell rows apart.
    keys: Vec<usize>,
}

/// A maildrop's own row.
#[derive(Debug, Clone, PartialEq)]
pub struct Maildrop {
    pub id: i64,
    pub row: Values,
}

/// All tables but `due`, in the place of which a database has leases.
#[derive(Debug)]
pub struct Shapes {
    maildrop: Shape,
    /// What the row of a maildrop says of which nothing is known, but for its identity.
    nothing: Values,
    /// What belongs to a maildrop.
    own: Vec<Shape>,
    /// What belongs to none.
    pub others: Vec<Shape>,
}

impl Shapes {
    /// Reads them from an empty store in memory.
    pub fn new() -> rusqlite::Result<Self> {
        let mut empty = Connection::open_in_memory()?;
        schema::migrate(&mut empty)?;
        let mut names = empty.prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT IN ('maildrop', 'due') ORDER BY name",
        )?;
        let names = names.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for name in names {
            let columns = columns(&empty, &name)?;
            let is_own = columns.iter().any(|(column, _)| column == "maildrop");
            let shape = Shape::new(name, columns, "maildrop");
            if is_own { own.push(shape) } else { others.push(shape) }
        }
        // Its key is its name; the number is what others know it by.
        let mut of_maildrop = columns(&empty, "maildrop")?;
        of_maildrop.iter_mut().for_each(|(column, is_key)| *is_key = column == "identity");
        let maildrop = Shape::new("maildrop".to_owned(), of_maildrop, "id");
        empty.execute("INSERT INTO maildrop (identity) VALUES ('')", [])?;
        let select = format!("SELECT {} FROM maildrop", maildrop.columns.join(", "));
        let count = maildrop.columns.len();
        let nothing =
            empty.query_row(&select, [], |row| (0..count).map(|column| row.get(column)).collect())?;
        Ok(Self { maildrop, nothing, own, others })
    }

    /// Gives the next maildrops behind one, by identity.
    pub fn maildrops(
        &self,
        tables: Tables<'_>,
        behind: Option<&Maildrop>,
        most: usize,
    ) -> Result<Vec<Maildrop>> {
        let last =
            behind.map_or_else(|| Value::Text(String::new()), |last| last.row[self.identity()].clone());
        let sql = format!("{} WHERE identity > ?1 ORDER BY identity LIMIT {most}", self.select());
        tables.rows(&sql, &[&last], |row| self.read(row))
    }

    /// Gives the maildrop of this identity.
    pub fn find(&self, tables: Tables<'_>, identity: &str) -> Result<Option<Maildrop>> {
        tables.first(&format!("{} WHERE identity = ?1", self.select()), &[&identity], |row| self.read(row))
    }

    /// Gives the identity of a maildrop as a database has it.
    pub fn name(&self, maildrop: &Maildrop) -> String {
        match portable(&maildrop.row[self.identity()]) {
            Value::Text(name) => name,
            // The column takes nothing else.
            Value::Null | Value::Integer(_) | Value::Real(_) | Value::Blob(_) => String::new(),
        }
    }

    /// Says whether nothing is known of a maildrop but its identity.
    pub fn is_nothing(&self, maildrop: &Maildrop) -> bool {
        let identity = self.identity();
        let mut both = maildrop.row.iter().zip(&self.nothing).enumerate();
        both.all(|(place, (one, other))| place == identity || one == other)
    }

    /// Counts and digests all that a store has of a maildrop.
    pub fn digest(&self, tables: Tables<'_>, maildrop: &Maildrop) -> Result<Digest> {
        let mut digest = Digest::default();
        digest.add(&self.maildrop, &maildrop.row);
        for shape in &self.own {
            let mut pages = shape.pages(Some(maildrop.id));
            while let Some(rows) = pages.next(tables)? {
                rows.iter().for_each(|row| digest.add(shape, row));
            }
        }
        Ok(digest)
    }

    /// Writes all that one store has of a maildrop into another, in the place of what that has of it; gives its number there.
    /// `blame` takes what fails where it is read.
    pub fn copy(
        &self,
        (from, to): (Tables<'_>, Tables<'_>),
        maildrop: &Maildrop,
        blame: &dyn Fn(Fault) -> Fault,
    ) -> Result<(i64, Digest)> {
        let mut digest = Digest::default();
        digest.add(&self.maildrop, &maildrop.row);
        let columns = &self.maildrop.columns;
        let set: Vec<_> = columns.iter().map(|column| format!("{column} = excluded.{column}")).collect();
        let insert = format!(
            "{} ON CONFLICT (identity) DO UPDATE SET {} RETURNING id",
            self.maildrop.insert(None, 1),
            set.join(", ")
        );
        let row: Vec<&dyn ToSql> = maildrop.row.iter().map(|value| value as &dyn ToSql).collect();
        let id = to.first(&insert, &row, |row| row.get(0))?;
        let id = id.unwrap_or_default();
        for shape in &self.own {
            to.execute(&format!("DELETE FROM {} WHERE maildrop = ?1", shape.name), &[&id])?;
            let mut pages = shape.pages(Some(maildrop.id));
            while let Some(rows) = pages.next(from).map_err(blame)? {
                rows.iter().for_each(|row| digest.add(shape, row));
                shape.write(to, id, &rows)?;
            }
        }
        Ok((id, digest))
    }

    fn select(&self) -> String {
        format!("SELECT id, {} FROM maildrop", self.maildrop.columns.join(", "))
    }

    fn read(&self, row: &Row<'_>) -> Result<Maildrop> {
        Ok(Maildrop { id: row.get(0)?, row: values(row, 1, self.maildrop.columns.len())? })
    }

    fn identity(&self) -> usize {
        self.maildrop.keys[0]
    }
}

impl Shape {
    fn new(name: String, columns: Vec<(String, bool)>, left_out: &str) -> Self {
        let columns: Vec<_> = columns.into_iter().filter(|(column, _)| column != left_out).collect();
        let keys = columns.iter().enumerate().filter(|(_, (_, is_key))| *is_key).map(|(place, _)| place);
        Self { name, keys: keys.collect(), columns: columns.into_iter().map(|(column, _)| column).collect() }
    }

    /// Gives the rows of a maildrop, or all, page by page.
    pub fn pages(&self, maildrop: Option<i64>) -> Pages<'_> {
        Pages { shape: self, maildrop, last: None }
    }

    /// Gives the row of the same key, if there is one.
    pub fn same(&self, tables: Tables<'_>, row: &Values) -> Result<Option<Values>> {
        let condition = self.compared("=", 0);
        let sql = format!("SELECT {} FROM {} WHERE {condition}", self.columns.join(", "), self.name);
        tables.first(&sql, &self.key(row), |row| values(row, 0, self.columns.len()))
    }

    /// Adds a row unless there is one of the same key.
    pub fn add(&self, tables: Tables<'_>, row: &Values) -> Result<()> {
        let sql = format!("{} ON CONFLICT DO NOTHING", self.insert(None, 1));
        tables.execute(&sql, &row.iter().map(|value| value as &dyn ToSql).collect::<Vec<_>>())
    }

    fn write(&self, tables: Tables<'_>, maildrop: i64, rows: &[Values]) -> Result<()> {
        for chunk in rows.chunks(CHUNK) {
            let mut params: Vec<&dyn ToSql> = Vec::with_capacity(chunk.len() * (self.columns.len() + 1));
            for row in chunk {
                params.push(&maildrop);
                params.extend(row.iter().map(|value| value as &dyn ToSql));
            }
            tables.execute(&self.insert(Some("maildrop"), chunk.len()), &params)?;
        }
        // Not more than one page is on its way.
        tables.settle()
    }

    fn insert(&self, before: Option<&str>, rows: usize) -> String {
        let columns: Vec<&str> = before.into_iter().chain(self.columns.iter().map(String::as_str)).collect();
        let of_row = |row: usize| {
            let places = (1..=columns.len()).map(|place| format!("?{}", row * columns.len() + place));
            format!("({})", places.collect::<Vec<_>>().join(", "))
        };
        let values: Vec<_> = (0..rows).map(of_row).collect();
        format!("INSERT INTO {} ({}) VALUES {}", self.name, columns.join(", "), values.join(", "))
    }

    /// `(uid, ordinal) > (?2, ?3)`, where one parameter stands before.
    fn compared(&self, how: &str, before: usize) -> String {
        let places: Vec<_> = (1..=self.keys.len()).map(|place| format!("?{}", before + place)).collect();
        format!("({}) {how} ({})", self.key_columns(), places.join(", "))
    }

    fn key_columns(&self) -> String {
        self.keys.iter().map(|&place| self.columns[place].as_str()).collect::<Vec<_>>().join(", ")
    }

    fn key<'v>(&self, row: &'v Values) -> Vec<&'v dyn ToSql> {
        self.keys.iter().map(|&place| &row[place] as &dyn ToSql).collect()
    }
}

/// Rows of a table, page by page, in the order of their keys.
pub struct Pages<'s> {
    shape: &'s Shape,
    maildrop: Option<i64>,
    last: Option<Values>,
}

impl Pages<'_> {
    pub fn next(&mut self, tables: Tables<'_>) -> Result<Option<Vec<Values>>> {
        let shape = self.shape;
        let (mut conditions, mut params): (Vec<String>, Vec<&dyn ToSql>) = (Vec::new(), Vec::new());
        if let Some(maildrop) = &self.maildrop {
            conditions.push("maildrop = ?1".to_owned());
            params.push(maildrop);
        }
        if let Some(last) = &self.last {
            conditions.push(shape.compared(">", params.len()));
            params.extend(shape.key(last));
        }
        let condition = match conditions.is_empty() {
            true => String::new(),
            false => format!("WHERE {}", conditions.join(" AND ")),
        };
        let sql = format!(
            "SELECT {} FROM {} {condition} ORDER BY {} LIMIT {PAGE}",
            shape.columns.join(", "),
            shape.name,
            shape.key_columns()
        );
        let rows = tables.rows(&sql, &params, |row| values(row, 0, shape.columns.len()))?;
        self.last = rows.last().cloned();
        Ok((!rows.is_empty()).then_some(rows))
    }
}

/// How many rows there are, and a digest of them whatever their order, which alphabets differ in.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    pub rows: u64,
    sums: [u64; 4],
}

impl Digest {
    pub fn add(&mut self, shape: &Shape, row: &Values) {
        let mut digest = sha2::Sha256::default();
        let mut take = |kind: u8, octets: &[u8]| {
            use sha2::Digest as _;
            digest.update([kind]);
            digest.update((octets.len() as u64).to_be_bytes());
            digest.update(octets);
        };
        take(0, shape.name.as_bytes());
        for value in row {
            match portable(value) {
                Value::Null => take(1, &[]),
                Value::Integer(number) => take(2, &number.to_be_bytes()),
                Value::Real(number) => take(3, &number.to_be_bytes()),
                Value::Text(text) => take(4, text.as_bytes()),
                Value::Blob(octets) => take(5, &octets),
            }
        }
        let digest: [u8; 32] = sha2::Digest::finalize(digest).into();
        for (sum, part) in self.sums.iter_mut().zip(digest.as_chunks().0) {
            *sum = sum.wrapping_add(u64::from_be_bytes(*part));
        }
        self.rows += 1;
    }
}

/// Gives a value as a database keeps it, which has no NUL in a text.
pub fn portable(value: &Value) -> Value {
    match value {
        Value::Text(text) if text.contains('\0') => Value::Text(text.replace('\0', "\u{fffd}")),
        value => value.clone(),
    }
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<(String, bool)>> {
    let mut select = connection.prepare("SELECT name, pk > 0 FROM pragma_table_info(?1) ORDER BY cid")?;
    select.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn values(row: &Row<'_>, first: usize, count: usize) -> Result<Values> {
    (first..first + count).map(|column| row.get(column)).collect()
}
