FROM debian
RUN echo "$HOME" && \
    # a comment between
    echo two
RUN ["/bin/echo", "$HOME"]
RUN --network=none true
RUN --network=host true
