-- The tables that the `postgresql` pack looks at as it comes, in a schema of their own.
CREATE SCHEMA shop;
CREATE TABLE shop.customers (
    id integer PRIMARY KEY,
    email text NOT NULL UNIQUE
);
CREATE TABLE shop.orders (
    id integer PRIMARY KEY,
    customer_id integer NOT NULL REFERENCES shop.customers,
    state text NOT NULL CHECK (state IN ('new', 'paid', 'sent')),
    total numeric(10, 2) NOT NULL CHECK (total >= 0),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_by_customer ON shop.orders (customer_id);
CREATE TABLE shop.order_items (
    order_id integer NOT NULL REFERENCES shop.orders,
    line integer NOT NULL,
    price numeric(10, 2) NOT NULL,
    PRIMARY KEY (order_id, line)
);
CREATE VIEW shop.totals AS SELECT customer_id, sum(total) AS total FROM shop.orders GROUP BY customer_id;

INSERT INTO shop.customers SELECT n, 'customer-' || n || '@example.org' FROM generate_series(1, 50) n;
INSERT INTO shop.orders (id, customer_id, state, total) SELECT n, 1 + n % 50, 'paid', 3 * n FROM generate_series(1, 500) n;
INSERT INTO shop.order_items SELECT n, line, n * line FROM generate_series(1, 500) n, generate_series(1, 2) line;
