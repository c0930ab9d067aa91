from emitter.app.programs import link

if __name__ == "__main__":
    link()
