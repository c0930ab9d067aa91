from emitter.app.programs import filter  # noqa: A004

if __name__ == "__main__":
    filter()
