# Short names, nothing else.

t *args:
    cargo xtask test {{args}}

ci *steps:
    .ci/run {{steps}}

tidy:
    cargo xtask tidy

sim *args:
    cargo xtask sim {{args}}

doc:
    cargo xtask format-doc

bench *args:
    cargo xtask bench nfs {{args}}

up *args:
    cargo run --release -- up {{args}}
