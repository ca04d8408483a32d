# syntax=docker/dockerfile:1

# comment
   FROM scratch
env A=1 \

    # in between
    B=2
user  u\
ser
