FROM scratch
ENV DIR=/path
WORKDIR $DIR/sub
WORKDIR rel
WORKDIR ../up
